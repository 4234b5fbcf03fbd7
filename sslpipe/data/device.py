"""Run-time choices of the device and its precision, which affect neither settings nor caching."""

import os

import torch

from sslpipe.io.errors import UserError

PRECISION = "SSLPIPE_PRECISION"
"""Environment variable with the precision of networks on CUDA: bfloat16, the default, or float32, as in most public
runs. It is no option, so that `dvc repro` and `sslpipe repeat` pass it on to every stage."""
PRECISIONS = {"": torch.bfloat16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def precision() -> torch.dtype:
    """Return the precision that the environment asks for; raises UserError for an unknown one."""
    name = os.environ.get(PRECISION, "")
    if name not in PRECISIONS:
        raise UserError(f"{PRECISION}: '{name}' found, expected bfloat16 or float32")
    return PRECISIONS[name]


def choose_device(name: str) -> torch.device:
    """Return the device with this name; "auto" is CUDA if it is available, else the CPU.

    Raises UserError for an unknown or unavailable device, and for an unknown precision.
    """
    full = precision() is torch.float32
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: unknown device, expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: not supported, expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {name}: {torch.cuda.device_count()} CUDA devices found")
        torch.backends.cudnn.benchmark = True
        if full:
            # torch's default rounds convolutions to TF32.
            torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    return device


def autocast(device: torch.device) -> torch.autocast:
    """Return a context for mixed precision: bfloat16 on CUDA unless float32 is asked for, float32 on other devices."""
    enabled = device.type == "cuda" and precision() is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
