"""The run-time choice of precision; there is no GPU here, so contexts are looked at and not entered."""

import pytest
import torch

from sslpipe.data import device
from sslpipe.io.errors import UserError

CUDA = torch.device("cuda")


@pytest.fixture
def ask(monkeypatch):
    """Set the precision that the environment asks for, or none."""

    def put(name):
        if name is None:
            monkeypatch.delenv(device.PRECISION, raising=False)
        else:
            monkeypatch.setenv(device.PRECISION, name)

    return put


@pytest.mark.parametrize(("name", "enabled"), [(None, True), ("", True), ("bfloat16", True), ("float32", False)])
def test_networks_run_in_bfloat16_on_cuda_unless_float32_is_asked_for(ask, monkeypatch, name, enabled):
    ask(name)
    seen = {}
    monkeypatch.setattr(torch, "autocast", lambda kind, **given: seen.update({kind: given}))
    device.autocast(CUDA)
    device.autocast(torch.device("cpu"))
    assert seen == {
        "cuda": {"dtype": torch.bfloat16, "enabled": enabled},
        "cpu": {"dtype": torch.bfloat16, "enabled": False},
    }


def test_convolutions_in_float32_are_not_rounded_to_tf32(ask, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.backends.cudnn.conv.fp32_precision
    try:
        ask("float32")
        assert device.choose_device("cuda:0") == torch.device("cuda:0")
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before


def test_an_unknown_precision_is_one_line(ask):
    ask("fp16")
    with pytest.raises(UserError, match=r"^SSLPIPE_PRECISION: 'fp16' found, expected bfloat16 or float32$"):
        device.choose_device("cpu")
