"""Ctrl-C that waits for the end of a step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether Ctrl-C or a polite kill has come since `listening` began."""

    received = False


@contextmanager
def listening() -> Iterator[Interrupts]:
    """Hold back Ctrl-C and SIGTERM, so that a step is finished and saved before the run ends."""
    interrupts = Interrupts()

    def note(number: int, frame: FrameType | None) -> None:
        if interrupts.received:  # a second one does not wait
            raise KeyboardInterrupt
        interrupts.received = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
