"""Commands of the stages as processes with a time limit, at which SIGINT lets them save a checkpoint."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.plan import ROOT, Plan
from sslpipe.io.console import info

PROGRAM = [sys.executable, "-m", "stages"]
SAVE_SECONDS = 15.0
"""How long a stage has after SIGINT to end its step and to write its checkpoint, before it is killed (own choice)."""


class StoppedError(Exception):
    """A command was stopped at the time limit; the same command goes on from its checkpoint."""


@dataclass(frozen=True)
class Job:
    """A stage's command."""

    name: str
    """Name of its log file."""
    arguments: Sequence[str]
    output: str
    """The folder that it writes, which replaces the old one as a whole: it exists when the command has succeeded."""


def run_together(plan: Plan, folder: Path, jobs: Sequence[Job], *, seconds: float | None = None) -> dict[str, float]:
    """Run commands side by side in a folder, and return the seconds of each; those whose output exists are not run.

    seconds: limit; None: what is left of the call, less the time to save. Raises StoppedError if one did not end
    in time, and RuntimeError with its last line if one fails.
    """
    waiting = [job for job in jobs if not (folder / job.output).exists()]
    left = plan.left - SAVE_SECONDS
    limit = left if seconds is None else min(seconds, left)
    if waiting and limit <= 0:
        raise StoppedError(f"{waiting[0].name}: no time left in this call")
    began, took = time.monotonic(), {}
    started = {job.name: _start(folder, job) for job in waiting}
    stopped = []
    try:
        for name, process in started.items():
            try:
                process.wait(timeout=max(began + limit - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                stopped.append(name)
            took[name] = time.monotonic() - began
    finally:  # after Ctrl-C as well
        _end([process for process in started.values() if process.poll() is None])
    for job in waiting:
        written = (folder / job.output).exists()
        if not written and job.name not in stopped:
            raise RuntimeError(f"{job.name}: {last_line(_log(folder, job))}")
        info(f"{job.name}: {'done in' if written else 'stopped after'} {took[job.name]:.0f} s")
    missing = [job.name for job in waiting if not (folder / job.output).exists()]
    if missing:
        raise StoppedError(f"{' and '.join(missing)} stopped at the time limit")
    return took


def run(plan: Plan, folder: Path, job: Job, *, seconds: float | None = None) -> float:
    """Run one command as `run_together` does, and return its seconds; 0 if its output exists."""
    return run_together(plan, folder, [job], seconds=seconds).get(job.name, 0.0)


def _start(folder: Path, job: Job) -> "subprocess.Popen[bytes]":
    log = _log(folder, job)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            [*PROGRAM, *job.arguments], cwd=folder, env=environment(os.environ), stdout=file, stderr=file
        )


def _end(processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Let processes save their checkpoints and end; kill those that take longer than SAVE_SECONDS."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    until = time.monotonic() + SAVE_SECONDS
    for process in processes:
        try:
            process.wait(timeout=max(until - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the checkout's own packages are found first."""
    paths = [str(ROOT), *filter(None, [given.get("PYTHONPATH")])]
    return {**given, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _log(folder: Path, job: Job) -> Path:
    return folder / "logs" / f"{job.name}.txt"


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "ended without a word"
