"""Every method goes on bit for bit after a break: whatever it remembers is in the checkpoint."""

import signal

import numpy as np
import pytest
import torch
from every_method import METHODS, train

from sslpipe.data.images import Images
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.nets.network import BackboneSettings, build_network

ALTERNATION = "semisup/alternation"
BREAKS = [
    *((name, 7) for name in METHODS if name != ALTERNATION),
    # While it learns labels, clusters, and learns labels again.
    *((ALTERNATION, steps) for steps in (4, 10, 13)),
]
"""Steps done, of fifteen, three an epoch."""


@pytest.fixture(scope="module")
def few(digits):
    """The first sixty of the digits."""
    train_images, held_out, label, held_out_label = digits
    return Images(train_images.array[:60], torch.device("cpu")), held_out, label[:60], held_out_label


def build(name, digits, info, seed):
    torch.manual_seed(seed)
    settings, method = METHODS[name](digits, build_network(BackboneSettings(name="tiny_resnet"), info))
    return {"settings": settings, "method": method}


def interrupt_after(method, steps):
    """Press Ctrl-C within a step, the last of so many."""
    after_step = method.after_step

    def press():
        after_step()
        if method.progress.step == steps:
            signal.raise_signal(signal.SIGINT)

    method.after_step = press


@pytest.mark.parametrize(("name", "steps"), BREAKS)
def test_goes_on_bit_for_bit_after_a_break(name, steps, few, info, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)  # slow, and of no use to a test
    run = {"batch": 20, "epochs": 5}
    whole = build(name, few, info, seed=0)
    history = train(name, few, **whole, **run)
    checkpoint = Checkpoint(tmp_path, every_seconds=1e9)
    broken = build(name, few, info, seed=0)
    interrupt_after(broken["method"], steps)
    with pytest.raises(KeyboardInterrupt):
        train(name, few, **broken, **run, checkpoint=checkpoint)
    # Other start values: what the checkpoint does not bring along is different now.
    resumed = build(name, few, info, seed=1)
    assert train(name, few, **resumed, **run, checkpoint=checkpoint) == history
    expected = whole["method"].state_dict()
    for key, value in resumed["method"].state_dict().items():
        np.testing.assert_array_equal(value.numpy(), expected[key].numpy(), err_msg=key)
