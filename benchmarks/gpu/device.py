"""What the machine is, and which packages that the plan can use are missing."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from benchmarks.__main__ import machine
from benchmarks.gpu.plan import Facts, Outcome, Plan

NEEDED = ("numpy", "PIL", "rich", "safetensors", "scipy", "sklearn", "tifffile", "torchvision", "typer", "yaml")
"""Without these, stages do not run."""
NOT_NEEDED = {"lightly": "no comparison of SimCLR", "kornia": "no views by kornia"}
"""Package → what a part leaves out without it."""


def missing(names: tuple[str, ...]) -> list[str]:
    """Return the modules of `names` that are not installed."""
    return [name for name in names if find_spec(name) is None]


def driver() -> str:
    """Return the version of NVIDIA's driver, or "unknown"."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return shown[0] if shown else "unknown"


def measure(plan: Plan, facts: Facts) -> Outcome:
    facts.clear()
    try:
        torchvision = version("torchvision")
    except PackageNotFoundError:
        torchvision = "missing"
    facts |= machine(plan.device)
    facts |= {"python": platform.python_version(), "torchvision": torchvision, "cores": len(os.sched_getaffinity(0))}
    if plan.device.type == "cuda":
        properties = torch.cuda.get_device_properties(plan.device)
        facts |= {
            **{
                "memory_gb": round(properties.total_memory / 1e9, 1),
                "multiprocessors": properties.multi_processor_count,
            },
            **{"driver": driver(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()},
        }
    absent = missing(NEEDED)
    facts["without"] = [f"{name}: {what}" for name, what in NOT_NEEDED.items() if missing((name,))]
    shown = ("device", "memory_gb", "driver", "torch", "cuda", "cudnn", "torchvision", "python", "cores")
    line = ", ".join(f"{name} {facts[name]}" for name in shown if name in facts)
    return Outcome(line + "".join(f"; without {each}" for each in facts["without"]),
                   bad=tuple(f"{name} is not installed; stages do not run without it" for name in absent))  # fmt: skip
