"""Handling of Ctrl-C and SIGTERM, and their delay until the end of a step."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call `handler` on SIGINT (Ctrl-C) and SIGTERM during the block."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


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

    with handled_by(note):
        yield interrupts
