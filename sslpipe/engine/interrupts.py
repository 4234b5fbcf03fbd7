"""Delay of Ctrl-C and SIGTERM until the end of a step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether SIGINT (Ctrl-C) or SIGTERM was received since `listening` began."""

    received = False


@contextmanager
def listening() -> Iterator[Interrupts]:
    """Delay Ctrl-C and SIGTERM, so that the current step is finished and saved before the run ends.

    A second signal raises KeyboardInterrupt at once.
    """
    interrupts = Interrupts()

    def note(number: int, frame: FrameType | None) -> None:
        if interrupts.received:
            raise KeyboardInterrupt
        interrupts.received = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
