"""Output of a running stage: progress bars on a terminal, plain lines in a log."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

PLAIN_LINE_SECONDS = 10.0
"""Minimum number of seconds between plain progress lines."""
LINES_PER_SECOND = 5
"""How often the live line of a terminal is drawn again."""
GOOD_BAR, SHORT_BAR, LONGEST_BAR = 10, 4, 40
"""Lengths of the bar in characters: beside all numbers, in a narrow terminal, and at most."""


def info(text: str) -> None:
    r"""Print one line to stdout, unbuffered; characters that its encoding does not have are written as \x escapes.

    On a terminal a line that is longer than its width is broken between words, with further lines indented.
    If stdout cannot be written (a full disk, a pipe or terminal that was closed), the command goes on without it.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        if "\n" not in text and sys.stdout.isatty():
            text = wrapped(text, shutil.get_terminal_size().columns)
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # such as of `| head`
            with suppress(OSError):
                print(f"standard output cannot be written ({error.strerror}); going on without it", file=sys.stderr)
        # What is still in the buffer would raise the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def duration(seconds: float) -> str:
    """Return a duration in few characters: 90 s, 2:10 (minutes and seconds), 1:02:10, 44 h."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 10:
        return f"{hours} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def wrapped(line: str, width: int) -> str:
    """Return a line broken between words into lines of at most `width` characters; longer words stay whole."""
    if len(line) <= width:
        return line
    broken = textwrap.wrap(line, max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(broken)


class Progress:
    """Progress of a task, shown as plain lines with the rate and the time left; updated by `advance`."""

    def __init__(self, title: str, total: int, unit: str, done: int, interval: float) -> None:
        """interval: minimum number of seconds between two lines. The other parameters are those of `progress`."""
        self.title, self.total, self.unit, self.done, self.interval = title, total, unit, done, interval
        self.note = ""
        self._started_at = done
        self._began = self._shown = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Mean number of units per second so far."""
        return (self.done - self._started_at) / max(self.seconds, 1e-9)

    @property
    def left(self) -> str:
        """Time left at this rate; empty if nothing is done."""
        rate = self.rate
        return duration((self.total - self.done) / rate) if rate > 0 else ""

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Add `by` units to those done; `note` is shown after the numbers until the next note."""
        self.done += by
        self.note = self.note if note is None else note
        if time.monotonic() - self._shown >= self.interval:
            self._shown = time.monotonic()
            self._show()

    def skip(self, by: int) -> None:
        """Add `by` units that an earlier run did: they count in no rate."""
        self.done += by
        self._started_at += by
        self._began = time.monotonic()

    def _show(self) -> None:
        numbers = f"{self.done}/{self.total} {self.unit}, {self.rate:.1f}/s, {self.left or '0 s'} left"
        info(f"{self.title}: {numbers}  {self.note}".rstrip())

    def finish(self) -> None:
        """Print a line with the total time and the rate, for tasks of at least one second."""
        took = self.seconds
        if took >= 1.0:
            numbers = f"{self.done}/{self.total} {self.unit} in {duration(took)}, {self.rate:.1f}/s"
            info(f"{self.title}: {numbers}  {self.note}".rstrip())


class _Bar(Progress):
    """One live line on a terminal, rendered by rich while `live` is entered."""

    def __init__(self, title: str, total: int, unit: str, done: int) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(title, total, unit, done, interval=0.0)
        self._console = Console()
        self._numbers = ("", "")
        self.live = Live(
            console=self._console, get_renderable=self._line, transient=True, refresh_per_second=LINES_PER_SECOND
        )

    def _show(self) -> None:
        rate = self.rate
        self._numbers = (f"{rate:.0f}/s" if rate >= 100 else f"{rate:.3g}/s", self.left)

    def _line(self) -> Any:
        """Return what rich renders: the title, a bar if there is room, and the numbers."""
        from rich.text import Text

        count = f"{self.done}/{self.total} {self.unit}"
        title, room, numbers = fitted(self.title, count, *self._numbers, self.note, self._console.width - 1)
        room = min(room, LONGEST_BAR)
        full = min(room * self.done // max(self.total, 1), room)
        # A thick and a thin line differ on a light and on a dark terminal, and without colours.
        bar: list[Any] = [("━" * full, "green"), ("─" * (room - full), "bright_black"), " "] if room else []
        return Text.assemble(title, " ", *bar, numbers, no_wrap=True, overflow="crop")


def fitted(title: str, count: str, rate: str, left: str, note: str, width: int) -> tuple[str, int, str]:
    """Return title, length of the bar and numbers of a live line of at most `width` characters, one space between them.

    count, rate, left (the time), note: what can be shown. In a narrow terminal the count is left out first, then the
    bar becomes short, then the title's first part (that of the stage), the bar, the rate and the time are left out. The
    length is 0 for no bar. 80 characters have room for all but the count, and for titles of up to 20.
    """
    name, tight = title.rpartition(".")[2], note.replace("  ", " ")
    # Of constant width, so that the line does not jump.
    rate, spelled = f"{rate:>6}" if rate else "", f"{left:>7} left" if left else ""
    short = f"{left} left" if 0 < len(left) <= 4 else left
    short = f"{short:>9}" if short else ""
    forms = [
        (title, GOOD_BAR, _joined("  ", count, rate, spelled, note)),
        (title, GOOD_BAR, _joined("  ", rate, spelled, note)),
        (title, SHORT_BAR, _joined(" ", rate, short, tight)),
        (name, SHORT_BAR, _joined(" ", rate, short, tight)),
        (name, 0, _joined(" ", rate, short, tight)),
        (name, 0, _joined(" ", short, tight)),
    ]
    for shown, bar, numbers in forms:
        room = width - len(shown) - len(numbers) - 2
        if room >= bar:
            return shown, room if bar else 0, numbers
    return name, 0, (tight or left)[: max(width - len(name) - 1, 0)]


def _joined(separator: str, *parts: str) -> str:
    return separator.join(part for part in parts if part)


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0, *, last_line: bool = True) -> Iterator[Progress]:
    """Show the progress of a long task: one live line on a terminal, else a plain line every PLAIN_LINE_SECONDS.

    title: "" shows nothing. total: number of units. done: number of units done at the start, as after a resume.
    last_line: print the time and the rate at the end.
    """
    if not title:
        yield Progress(title, total, unit, done, interval=inf)
        return
    shown: Progress
    if sys.stdout.isatty():
        shown = _Bar(title, total, unit, done)
        with shown.live:
            yield shown
    else:
        shown = Progress(title, total, unit, done, interval=PLAIN_LINE_SECONDS)
        yield shown
    if last_line:
        shown.finish()
