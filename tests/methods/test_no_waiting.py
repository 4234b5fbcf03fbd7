"""A step never asks the device for a value: on CUDA, it would wait until everything before it has been computed."""

import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_method import METHODS, stream_of
from torch.utils._python_dispatch import TorchDispatchMode

import sslpipe
from sslpipe.engine.trainer import Trainer
from sslpipe.views.ctaugment import CTAugment
from sslpipe.views.policies import Views, ViewSettings
from sslpipe.views.pools import POOLS
from sslpipe.views.presets import POLICIES

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "equal"}
BY_INDEX = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""These wait when the index is a mask."""


class Waits(TorchDispatchMode):
    """Collects the lines below a folder that ask for a value."""

    def __init__(self, folder=Path(sslpipe.__file__).parent):
        super().__init__()
        self.folder = str(folder)
        self.lines = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[1].split(".")[0]
        by_mask = name in BY_INDEX and any(each is not None and each.dtype == torch.bool for each in args[1])
        if name in WAITS or by_mask:
            # The last frame is this one.
            line = [frame for frame in traceback.extract_stack()[:-1] if frame.filename.startswith(self.folder)][-1]
            # Compares its classes with the number of them, on a CPU alone.
            if "one_hot(" not in line.line:
                self.lines.add(f"{line.name}: {line.line}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", METHODS)
def test_steps_do_not_wait(name, digits, network):
    settings, method = METHODS[name](digits, network)
    batches = stream_of(digits, settings, method, 75)
    trainer = Trainer(method.train(), batches, replace(settings.fit, batch=75), seed=0)
    trainer.step(0)
    with Waits() as waits:
        for step in range(1, 8):
            trainer.step(step)
    assert waits.lines == set()


@pytest.mark.parametrize("policy", POLICIES)
def test_views_do_not_wait(policy, digits):
    image = torch.as_tensor(digits[0].array[:40])
    views, generator = Views(ViewSettings(policy=policy), [0.5]), torch.Generator().manual_seed(0)
    pool = views.settings.operation_ranges
    ctaugment = CTAugment(list(POOLS[pool].operations), pool=pool)
    for operations in (None, ctaugment):
        views(image, generator, operations)
        with Waits() as waits:
            views(image, generator, operations)
        assert waits.lines == set()


@pytest.mark.parametrize("wait", ["x.sum().item()", "x[x > 0]", "bool(x.any())", "x.nonzero()"])
def test_what_waits_is_seen(wait):
    def ask(x):
        eval(wait)

    with Waits(__file__) as waits:
        ask(torch.ones(3))
    assert waits.lines == {"ask: eval(wait)"}
