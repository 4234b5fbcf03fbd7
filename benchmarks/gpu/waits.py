"""Where the host waits for the GPU within a step, and how many kernels a step launches.

Waits are what torch.cuda.set_sync_debug_mode warns of, by the line that asks. Kernels, copies and fills are counted by
torch's profiler, and so are the launches, of which a CUDA graph with many kernels needs one. The networks are the tiny
ones of tests/methods/every_method.py; the part steps counts published settings.
"""

import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.methods import names, trainer
from benchmarks.gpu.plan import ROOT, Facts, Outcome, Plan
from sslpipe.engine.trainer import Trainer
from sslpipe.io.console import info

STEPS = range(3, 10)
"""Of a run with four an epoch: the ends of two epochs are among them. Steps before may wait: graphs are recorded."""
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
COPIES = ("Memcpy", "Memset")
EXPECTED: dict[str, str] = {}
"""Method → why its steps wait; others that wait are BAD."""


@contextmanager
def noted(folder: Path = ROOT / "sslpipe") -> Iterator[set[str]]:
    """Collect the lines below a folder, file:number, at which warnings of waits arise during the block.

    A wait without such a line, as in a backward pass, has the line of torch that the warning names.
    """
    lines: set[str] = set()

    def note(message: Warning | str, category: type[Warning], filename: str, number: int, *rest: Any) -> None:
        if "synchroniz" in str(message):
            asked = [each for each in traceback.extract_stack() if Path(each.filename).is_relative_to(folder)]
            where, line = (asked[-1].filename, asked[-1].lineno) if asked else (filename, number)
            shown = Path(where).relative_to(ROOT) if Path(where).is_relative_to(ROOT) else Path(where).name
            lines.add(f"{shown}:{line}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield lines


def waits(trained: Trainer) -> list[str]:
    """Return the lines at which steps wait; none on a CPU, which has nothing to wait for."""
    cuda = trained.batches.device.type == "cuda"
    for step in range(STEPS.start):
        trained.step(step)
    with noted() as lines:
        if cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            for step in STEPS:
                trained.step(step)
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode("default")
    return sorted(lines)


def counted(events: Iterable[Any]) -> dict[str, int]:
    """Return the numbers of kernels, of copies and fills, and of launches among a profiler's events."""
    found = [(event.device_type == DeviceType.CUDA, event.name) for event in events]
    copies = sum(name.startswith(COPIES) for on_gpu, name in found if on_gpu)
    return {
        "kernels": sum(on_gpu for on_gpu, _ in found) - copies,
        "copies": copies,
        "launches": sum(name.startswith(LAUNCHES) for on_gpu, name in found if not on_gpu),
    }


def launches(trained: Trainer, steps: range) -> dict[str, int]:
    """Return the medians of what `counted` finds in each of some steps."""
    cuda, numbers = trained.batches.device.type == "cuda", []
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    for step in steps:
        with profile(activities=activities) as profiler:
            trained.step(step)
            if cuda:
                torch.cuda.synchronize()
        numbers.append(counted(profiler.events()))
    return {key: int(median(each[key] for each in numbers)) for key in numbers[0]}


def measure(plan: Plan, facts: Facts) -> Outcome:
    chosen = names(plan)
    for name in chosen:
        if plan.is_over:
            break
        if name not in facts:
            trained = trainer(name, plan.device)
            lines = waits(trained)
            counts = launches(trained, range(STEPS.stop, STEPS.stop + 3))
            facts[name] = {"lines": lines, **counts}
            shown = ", ".join(f"{count} {what}" for what, count in counts.items())
            info(f"{name}: {shown} a step; waits: {', '.join(lines) or 'none'}")
    found = {name: facts[name] for name in chosen if name in facts}
    bad = [f"{name} waits at {', '.join(each['lines'])}"
           for name, each in found.items() if each["lines"] and name not in EXPECTED]  # fmt: skip
    kernels = [each["kernels"] for each in found.values()]
    span = f"{min(kernels, default=0)} to {max(kernels, default=0)} kernels a step"
    line = f"{len(found)} of {len(chosen)} methods, {len(bad)} wait; {span}"
    return Outcome(line, tuple(bad), done=len(found) == len(chosen))
