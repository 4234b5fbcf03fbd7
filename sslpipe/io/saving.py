"""When unfinished work is saved: at an interval that grows with the time that a save takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sslpipe.io.console import duration, info

SHARE = 0.02
"""Largest share of the time that saves take (own choice)."""
SECONDS = 20.0
"""Default of the minimum number of seconds between saves; a longer interval is printed."""


class Saving:
    """The interval between saves of all of the work so far.

    Saves that take long, such as those of a memory bank of a million images, are made less often: the time between two
    is at least the last one's duration over SHARE.
    """

    def __init__(self, every_seconds: float = SECONDS) -> None:
        """every_seconds: minimum number of seconds between saves; 0: after every step, whatever it costs."""
        self.every_seconds = every_seconds
        self.interval = every_seconds
        """Seconds from the end of a save to the next one, at least."""
        self._told = False
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether it is time for another save."""
        return time.monotonic() - self._last >= self.interval

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Set the interval by the duration of a save, which is the block, and print a longer one than usual once."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._last = time.monotonic()
            self._space_out(self._last - began)

    def _space_out(self, seconds: float) -> None:
        if not self.every_seconds:
            return
        self.interval = max(self.every_seconds, seconds / SHARE)
        if self.interval > max(self.every_seconds, SECONDS) and not self._told:
            self._told = True
            info(
                f"a checkpoint takes {seconds:.1f} s, so the next one follows after {duration(self.interval)} or "
                f"more, for at most {SHARE:.0%} of the time; --checkpoint-seconds 0 writes one after every step"
            )
