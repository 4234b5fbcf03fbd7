"""The last lines that a command has printed, as a terminal would show them."""

import codecs
import re

KEPT = 40
"""Lines that are kept."""
LONGEST = 1000
"""Characters of a line that are kept."""
ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
"""Control sequences of terminals, and control characters other than tab, line feed and carriage return."""
COUNT = re.compile(r"(?P<title>.*?)\d[\d,.]*/(?P<total>\d[\d,.]*)\b")
"""Beginning of a line that tells how much of a total is done."""


class Output:
    """Collects what a command prints; empty lines are left out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lines: list[str] = []
        self._open = ""

    @property
    def lines(self) -> list[str]:
        """The last lines, and the one that has not ended."""
        last = _visible(self._open)
        found = _appended(self._lines, last) if last else self._lines
        return found[-KEPT:]

    def add(self, data: bytes) -> None:
        """Add some bytes, at any boundary; a line that is like the one before, but for its progress, replaces it."""
        *ended, self._open = (self._open + self._decoder.decode(data)).split("\n")
        for line in ended:
            if shown := _visible(line):
                self._lines = _appended(self._lines, shown)[-KEPT:]
        if len(self._open) > 2 * LONGEST:
            self._open = self._open.rpartition("\r")[2][-LONGEST:]

    def end_line(self, text: str = "") -> None:
        """End the open line, if there is one, and add a line of another origin."""
        self.add(b"\n" if _visible(self._open) else b"")
        if text:
            self._lines = [*self._lines, text][-KEPT:]


def _visible(line: str) -> str:
    """Return what a terminal shows of a line in the end: what follows the last carriage return."""
    plain: str = ESCAPES.sub("", line).rstrip().rpartition("\r")[2].expandtabs()
    return plain[:LONGEST]


def _appended(lines: list[str], line: str) -> list[str]:
    before, now = COUNT.match(lines[-1] if lines else ""), COUNT.match(line)
    same = before and now and before.group("title", "total") == now.group("title", "total")
    return [*lines[:-1], line] if same else [*lines, line]
