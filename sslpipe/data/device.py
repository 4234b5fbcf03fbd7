"""Run-time choices of the device and its precision, which affect neither settings nor caching."""

import torch

from sslpipe.io.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device with this name; "auto" is CUDA if it is available, else the CPU.

    Raises UserError for an unknown or unavailable device.
    """
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
    return device


def autocast(device: torch.device) -> torch.autocast:
    """Return a context for mixed precision: bfloat16 on CUDA, float32 on other devices."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
