"""Output of a running stage: progress bars on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf

PLAIN_LINE_SECONDS = 10.0
"""Minimum number of seconds between plain progress lines."""


def info(text: str) -> None:
    r"""Print one line to stdout, unbuffered; characters that its encoding does not have are written as \x escapes.

    If stdout cannot be written (a full disk, a pipe or terminal that was closed), the command goes on without it.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # such as of `| head`
            with suppress(OSError):
                print(f"standard output cannot be written ({error.strerror}); going on without it", file=sys.stderr)
        # What is still in the buffer would raise the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """Progress of a task, shown as plain lines with the rate and the time left; updated by `advance`."""

    def __init__(self, title: str, total: int, unit: str, done: int, interval: float) -> None:
        """interval: minimum number of seconds between two lines. The other parameters are those of `progress`."""
        self.title, self.total, self.unit, self.done, self.interval = title, total, unit, done, interval
        self.note = ""
        self._started_at = done
        self._began = self._shown = time.monotonic()

    @property
    def rate(self) -> float:
        """Mean number of units per second so far."""
        return (self.done - self._started_at) / max(time.monotonic() - self._began, 1e-9)

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Add `by` units to those done; `note` is shown after the numbers until the next note."""
        self.done += by
        self.note = self.note if note is None else note
        if time.monotonic() - self._shown >= self.interval:
            self._shown = time.monotonic()
            self._show()

    def _show(self) -> None:
        left = (self.total - self.done) / self.rate if self.rate > 0 else 0.0
        numbers = f"{self.done}/{self.total} {self.unit}, {self.rate:.1f}/s, {left:.0f} s left"
        info(f"{self.title}: {numbers}  {self.note}".rstrip())

    def finish(self) -> None:
        """Print a line with the total time and the rate, for tasks of at least one second."""
        took = time.monotonic() - self._began
        if took >= 1.0:
            numbers = f"{self.done}/{self.total} {self.unit} in {took:.1f} s, {self.rate:.1f}/s"
            info(f"{self.title}: {numbers}  {self.note}".rstrip())


class _Bar(Progress):
    """A progress bar on a terminal, rendered by rich while `rich` is entered."""

    def __init__(self, title: str, total: int, unit: str, done: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        super().__init__(title, total, unit, done, interval=0.0)
        self.rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            transient=True,
        )
        self._task = self.rich.add_task(title, total=total, completed=done, rate="", note="")

    def _show(self) -> None:
        self.rich.update(self._task, completed=self.done, rate=f"{self.rate:.1f} {self.unit}/s", note=self.note)


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """Show the progress of a long task: a bar on a terminal, else a plain line every PLAIN_LINE_SECONDS.

    title: "" shows nothing. total: number of units. done: number of units done at the start, as after a resume.
    """
    if not title:
        yield Progress(title, total, unit, done, interval=inf)
        return
    shown: Progress
    if sys.stdout.isatty():
        shown = _Bar(title, total, unit, done)
        with shown.rich:
            yield shown
    else:
        shown = Progress(title, total, unit, done, interval=PLAIN_LINE_SECONDS)
        yield shown
    shown.finish()
