"""Output of a running stage: progress bars on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PLAIN_LINE_SECONDS = 10.0
"""Minimum number of seconds between plain progress lines."""


def info(text: str) -> None:
    r"""Print one line to stdout, unbuffered; characters that its encoding does not have are written as \x escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


@dataclass
class Progress:
    """Progress of a task, shown as plain lines with the rate and the time left; updated by `advance`."""

    title: str
    total: int
    unit: str
    done: int = 0
    note: str = ""
    started_at: int = 0
    shows: bool = True
    _began: float = field(default_factory=lambda: time.monotonic())
    _shown: float = field(default_factory=lambda: time.monotonic())

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Add `by` units to those done; `note` is shown after the numbers until the next note."""
        self.done += by
        self.note = self.note if note is None else note
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if self.shows and now - self._shown >= PLAIN_LINE_SECONDS:
            self._shown = now
            self._line(now)

    def _line(self, now: float) -> None:
        rate = (self.done - self.started_at) / max(now - self._began, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        info(
            f"{self.title}: {self.done}/{self.total} {self.unit}, {rate:.1f}/s, {left:.0f} s left  {self.note}".rstrip()
        )

    def finish(self) -> None:
        """Print a line with the total time and the rate, for tasks of at least one second."""
        took = time.monotonic() - self._began
        if took >= 1.0:
            rate = (self.done - self.started_at) / took
            numbers = f"{self.done}/{self.total} {self.unit} in {took:.1f} s, {rate:.1f}/s"
            info(f"{self.title}: {numbers}  {self.note}".rstrip())


class _Bar(Progress):
    """A progress bar on a terminal, rendered by rich."""

    def open(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            transient=True,
        )
        self._task = self._rich.add_task(self.title, total=self.total, completed=self.done, rate="", note="")
        self._rich.start()

    def close(self) -> None:
        self._rich.stop()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= 0.1 or self.done >= self.total:
            self._shown = now
            rate = (self.done - self.started_at) / max(now - self._began, 1e-9)
            self._rich.update(self._task, completed=self.done, rate=f"{rate:.1f} {self.unit}/s", note=self.note)


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """Show the progress of a long task: a bar on a terminal, else a plain line every PLAIN_LINE_SECONDS.

    title: "" shows nothing. total: number of units. done: number of units done at the start, as after a resume.
    """
    if not title:
        yield Progress(title, total, unit, shows=False)
        return
    if not sys.stdout.isatty():
        plain = Progress(title, total, unit, done=done, started_at=done)
        yield plain
        plain.finish()
        return
    bar = _Bar(title, total, unit, done=done, started_at=done)
    bar.open()
    try:
        yield bar
    finally:
        bar.close()
    bar.finish()
