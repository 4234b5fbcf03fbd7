"""Every method of tests/methods/every_method.py, tiny and ready to step on a device, with equal random draws."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.overrides import TorchFunctionMode

from benchmarks.gpu.plan import ROOT, Plan
from sslpipe.data.device import PRECISION
from sslpipe.data.images import Images
from sslpipe.data.store import StoreInfo
from sslpipe.engine.ahead import AHEAD as VIEWS_AHEAD
from sslpipe.engine.trainer import Trainer
from sslpipe.nets.network import BackboneSettings, build_network

TRAIN, HELD_OUT, BATCH = 300, 60, 75
TINY = ("pretrain/simclr", "cluster/scan", "semisup/fixmatch")
"""Methods of a rehearsal: one for each kind of problem."""
OFF = "0"
"""Value of VIEWS_AHEAD with which a trainer on CUDA draws no views ahead, read when it is built."""
INFO = StoreInfo(
    **{"size": 8, "channels": 1, "mean": (0.3,), "std": (0.37,), "train": TRAIN, "held_out": HELD_OUT, "test": 0},
    **{"protocol": "split", "fingerprint": "0" * 64},
)


@cache
def every_method() -> ModuleType:
    """Return the module with all methods, by its path: the folder tests is no package."""
    name, path = "every_method", ROOT / "tests/methods/every_method.py"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def names(plan: Plan) -> tuple[str, ...]:
    """Return the names of the methods that are checked."""
    return TINY if plan.tiny else tuple(every_method().METHODS)


@cache
def digits(device: torch.device) -> tuple[Any, ...]:
    """Return 8 × 8 digits to train on and held-out ones, as images on a device, and the labels of both."""
    data = load_digits()
    pixels = (data.images * (255 / 16)).astype(np.uint8)[:, None]
    label, end = data.target, TRAIN + HELD_OUT
    return Images(pixels[:TRAIN], device), Images(pixels[TRAIN:end], device), label[:TRAIN], label[TRAIN:end]


def trainer(name: str, device: torch.device) -> Trainer:
    """Return a method's trainer with the weights of seed 0, which do not depend on the device."""
    torch.manual_seed(0)
    network = build_network(BackboneSettings(name="tiny_resnet"), INFO).to(device)
    settings, method = every_method().METHODS[name](digits(device), network)
    batches = every_method().stream_of(digits(device), settings, method.to(device), BATCH)
    return Trainer(method.train(), batches, replace(settings.fit, batch=BATCH, epochs=5), seed=0)


class DrawnOnCPU(TorchFunctionMode):
    """Random numbers for a CUDA device are drawn on the CPU, from a generator with the same seed, and copied."""

    draws = frozenset((torch.rand, torch.randn, torch.randint, torch.randperm))

    def __init__(self) -> None:
        super().__init__()
        self._twins: dict[int, torch.Generator] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function; one that draws gets the CPU and the twin of its generator."""
        kwargs = dict(kwargs or {})
        if func not in self.draws:
            return func(*args, **kwargs)
        device = torch.device(kwargs.pop("device", None) or "cpu")
        generator = kwargs.pop("generator", None)
        return func(*args, **kwargs, generator=generator and self._twin(generator)).to(device)

    def _twin(self, generator: torch.Generator) -> torch.Generator:
        """Return the CPU generator that stands for a generator; it begins anew when that one gets another seed."""
        if generator.device.type == "cpu":
            return generator
        seed = generator.initial_seed()
        twin = self._twins.setdefault(id(generator), torch.Generator())
        if twin.initial_seed() != seed:
            twin.manual_seed(seed)
        return twin


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Have environment variables during the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def comparable(number: str) -> Iterator[None]:
    """Compute on CUDA with the CPU's random draws, in bfloat16 or float32, so that runs on both can be compared.

    In float32, convolutions are not rounded to TF32, as `choose_device` sees to in a stage. Views are drawn within the
    step, since draws that are copied from the CPU cannot be recorded in a CUDA graph.
    """
    convolutions = torch.backends.cudnn.conv
    rounding = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee" if number == "float32" else rounding
    try:
        with variables({PRECISION: number, VIEWS_AHEAD: OFF}), DrawnOnCPU():
            yield
    finally:
        convolutions.fp32_precision = rounding
