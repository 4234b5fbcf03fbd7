"""Run-time choices of the device and its precision, which affect neither settings nor caching."""

import os
import warnings
from dataclasses import dataclass
from functools import cache

import torch

from sslpipe.data.device_probe import FALLBACK, Probe, probe
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.own_process import processes_started
from sslpipe.io.text import counted, listed

PRECISION = "SSLPIPE_PRECISION"
"""Environment variable with the precision of networks on CUDA: bfloat16, the default, or float32, as in most public
runs. It is no option, so that `dvc repro` and `sslpipe repeat` pass it on to every stage."""
PRECISIONS = {"": torch.bfloat16, "bfloat16": torch.bfloat16, "float32": torch.float32}
EXPECTED = "expected auto, cpu, cuda, cuda:N or mps"


@dataclass(frozen=True)
class Found:
    """A device, and in words what it is and why it was taken."""

    device: torch.device
    text: str


def precision() -> torch.dtype:
    """Return the precision that the environment asks for; raises UserError for an unknown one."""
    name = os.environ.get(PRECISION, "")
    if name not in PRECISIONS:
        raise UserError(f"{PRECISION}: '{name}' found, expected bfloat16 or float32")
    return PRECISIONS[name]


def choose_device(name: str) -> torch.device:
    """Return the device that `find_device` finds, and print it, once in a process."""
    found = find_device(name)
    if processes_started() > 1:
        found = _own_device(name, found)
    if found.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        if precision() is torch.float32:
            # torch's default rounds convolutions to TF32.
            torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    _print_once(f"device: {found.text}")
    return found.device


def _own_device(name: str, found: Found) -> Found:
    """Return this process's device, of several that train together: the CUDA device of its number, or the CPU."""
    count, device = processes_started(), found.device
    if device.type == "mps":
        raise UserError(f"--devices {count}: found one Apple GPU (mps), expected CUDA devices or --device cpu")
    if ":" in name:
        raise UserError(f"--device {name}: found with --devices {count}, expected cuda, whose first devices are used")
    if device.type == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise UserError(f"--devices {count}: {torch.cuda.device_count()} CUDA devices found")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    return Found(device, f"{count} processes, the first with {found.text}")


@cache
def _print_once(line: str) -> None:
    info(line)


def find_device(name: str) -> Found:
    """Return the device with this name.

    "auto" is CUDA if it is available, else an Apple GPU (mps) if it has all operations of `device_probe`, possibly by
    computing some on the CPU, else the CPU. Raises UserError for an unknown or unavailable device, and for an unknown
    precision.
    """
    precision()
    if name == "auto":
        return _best()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: unknown device, {EXPECTED}") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {name}: not supported, {EXPECTED}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: {torch.cuda.device_count()} CUDA devices found")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {name}: no Apple GPU that torch {torch.__version__} can use found")
    if device.type == "mps":
        return Found(device, _described_mps(probe(device)))
    if device.type == "cpu":
        return Found(device, f"cpu, {counted(torch.get_num_threads(), 'thread')}")
    name = torch.cuda.get_device_name(device)
    return Found(device, f"cuda:{device.index or 0} ({name}), {str(precision()).removeprefix('torch.')}")


def _best() -> Found:
    """Return CUDA, an Apple GPU or the CPU."""
    if torch.cuda.is_available():
        return find_device("cuda")
    if not torch.backends.mps.is_available():
        return find_device("cpu")
    mps = torch.device("mps")
    found = probe(mps)
    if not found.missing:
        return Found(mps, _described_mps(found))
    cpu = find_device("cpu")
    return Found(cpu.device, f"{cpu.text} (mps lacks {listed(found.missing)}; --device mps takes it all the same)")


def _described_mps(found: Probe) -> str:
    """Return what was found on an Apple GPU, in words."""
    # They are named here, so that torch's own warning, of the first one alone, adds nothing.
    warnings.filterwarnings("ignore", message=f".*{FALLBACK}")
    notes = [f"lacks {listed(found.missing)}"] * bool(found.missing)
    notes += [f"{listed(found.on_cpu)} on the CPU"] * bool(found.on_cpu)
    return f"mps, float32{' (' + '; '.join(notes) + ')' if notes else ''}"


def autocast(device: torch.device) -> torch.autocast:
    """Return a context for mixed precision: bfloat16 on CUDA unless float32 is asked for, float32 on other devices."""
    enabled = device.type == "cuda" and precision() is torch.bfloat16
    return torch.autocast(device.type, dtype=None if device.type == "mps" else torch.bfloat16, enabled=enabled)


def widest_float(device: torch.device) -> torch.dtype:
    """Return float64, for sums of many values; float32 on Apple's GPUs, which have no wider type."""
    return torch.float32 if device.type == "mps" else torch.float64


def image_format(device: torch.device) -> torch.memory_format:
    """Return channels_last, in which convolutions are faster on CPUs and on CUDA; the usual format on Apple's GPUs."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last
