"""What a person reads while a stage runs: progress bars on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PLAIN_LINE_SECONDS = 10.0
"""At most one plain progress line in this many seconds."""


def info(text: str) -> None:
    r"""One line on stdout, at once; what its encoding cannot hold (a file's name may be no UTF-8) is shown as \x."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


@dataclass
class Progress:
    """Work that is under way: `advance` it; the rate and the time left are shown."""

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
        """Count `by` more units as done; `note` stands behind the figures until the next one."""
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
        """Say how it ended."""
        took = time.monotonic() - self._began
        if took >= 1.0:
            rate = (self.done - self.started_at) / took
            figures = f"{self.done}/{self.total} {self.unit} in {took:.1f} s, {rate:.1f}/s"
            info(f"{self.title}: {figures}  {self.note}".rstrip())


class _Bar(Progress):
    """The same on a terminal, drawn by rich."""

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
    """Show long work: a bar with rate and time left on a terminal, else a plain line now and then.

    title: "" shows nothing. total, done: in units (`done` of them were there at the start, as after a resume).
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
