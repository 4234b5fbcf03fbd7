"""How long a training may be: measured by a short run of the same command, and fixed before the start."""

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.gpu.commands import Job, run_together
from benchmarks.gpu.plan import Facts, Plan
from sslpipe.io.console import info
from sslpipe.running.watching import live_folder


def steps_per_second(pace: Path) -> float:
    """Return the steps a second of the last interval of a run, what is measured at its end included.

    pace: the run's file pace.csv, with two rows or more; the first interval loads and chooses kernels.
    """
    with pace.open(newline="") as file:
        before, last = [(float(row["step"]), float(row["seconds"])) for row in csv.DictReader(file)][-2:]
    return (last[0] - before[0]) / max(last[1] - before[1], 1e-3)


def that_fit(seconds: float, each: float, *, most: int) -> int:
    """Return how many epochs or steps of `each` seconds fit into `seconds`: at least 1, at most `most`."""
    return max(1, min(most, int(seconds / each)))


def rates(plan: Plan, folder: Path, jobs: Mapping[str, Job], facts: Facts) -> dict[str, float]:
    """Run short trainings side by side, and return name → the steps a second of each, with the others beside it.

    jobs: name → its command. facts: keep what is measured for the calls that follow, in which the length of a run must
    be the same.
    """
    known: dict[str, float] = facts.setdefault("steps_per_second", {})
    if not jobs.keys() <= known.keys():
        paces = {name: live_folder(folder / job.output, name) / "pace.csv" for name, job in jobs.items()}
        with suppress(RuntimeError):  # a model of no use after so few steps has the same pace
            run_together(plan, folder, list(jobs.values()))
        for name, pace in paces.items():
            known[name] = steps_per_second(pace)
            info(f"{name}: {known[name]:.2f} steps/s")
    return {name: known[name] for name in jobs}
