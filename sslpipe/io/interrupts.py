"""Handling of Ctrl-C, SIGTERM and SIGHUP, and their delay until the end of a step."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command; SIGHUP, of a terminal that is closed, does not exist on Windows."""
PARENT_SECONDS = 0.5
"""Seconds between checks that the parent process exists."""
PARENT = "SSLPIPE_PARENT"
"""Environment variable of a process that `run_processes` started: the number of the process that supervises it."""
_received: list[int] = []


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call `handler` on SIGINT (Ctrl-C), SIGTERM and SIGHUP during the block; under nohup, SIGHUP stays ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if before.get(SIGNALS[-1]) is signal.SIG_IGN and len(SIGNALS) == 3:
        del before[SIGNALS[-1]]
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does: partial outputs are deleted, and a line names the signal.

    The exit code is 128 + the signal's number. A command that DVC runs is also ended, as by SIGTERM, when DVC's process
    ends: the next `dvc repro` would run the stage a second time beside it. So is one of several processes of a command
    when their supervisor ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    _received.clear()

    def stop(number: int, frame: FrameType | None) -> None:
        if not _forwarded_again(number):
            _received.append(number)
            raise KeyboardInterrupt

    with handled_by(stop), _ended_with_starter():
        try:
            yield
        except BaseException as error:
            # What else fails then, such as decoding processes that received the signal, is a consequence.
            if not _received or (isinstance(error, SystemExit) and not error.code):
                raise
            print(f"stopped by {signal.Signals(_received[0]).name}", file=sys.stderr)
            sys.exit(128 + _received[0])


@contextmanager
def _ended_with_starter() -> Iterator[None]:
    """Send SIGTERM to this process during the block when the DVC or supervisor that runs it ends (not on Windows)."""
    if "DVC_STAGE" not in os.environ and PARENT not in os.environ:
        yield
        return
    with ended_with_parent():
        yield


@contextmanager
def ended_with_parent() -> Iterator[None]:
    """Send SIGTERM to this process during the block if the process that started it ends (not on Windows)."""
    ancestors, ended = _ancestors(), threading.Event()
    if PARENT in os.environ and os.name == "posix":
        ancestors = [int(os.environ[PARENT])]  # it may have ended before this block

    def watch() -> None:
        while not ended.wait(PARENT_SECONDS):
            if _ancestors() != ancestors:
                if not _received:
                    os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _ancestors() -> list[int]:
    """Return the numbers of the parent process and, on Linux, of its ancestors up to the DVC that started them.

    Some shells, such as dash, stay between DVC and a command. What DVC starts has DVC_STAGE in its environment. Of one
    of several processes it is the supervisor alone, which forwards the signal that it receives when DVC ends.
    """
    found = [os.getppid()]
    if PARENT in os.environ:
        return found
    with suppress(OSError):
        while b"DVC_STAGE=" in Path(f"/proc/{found[-1]}/environ").read_bytes():
            state = Path(f"/proc/{found[-1]}/stat").read_text()
            found.append(int(state.rpartition(")")[2].split()[1]))
    return found


def _forwarded_again(number: int) -> bool:
    """Return whether one of several processes received this signal before, apart from SIGINT.

    Some senders, such as systemd and Slurm, signal every process of a command, and the supervisor forwards the signal.
    """
    return PARENT in os.environ and number in _received and number != signal.SIGINT


@contextmanager
def collected() -> Iterator[list[int]]:
    """Yield the list to which SIGINT, SIGTERM and SIGHUP are appended when they are received; they end nothing."""
    _received.clear()
    with handled_by(lambda number, frame: _received.append(number)):
        try:
            yield _received
        finally:
            _received.clear()  # the command has been stopped in order: `stoppable` prints no line


class Interrupts:
    """Whether SIGINT (Ctrl-C), SIGTERM or SIGHUP was received since `listening` began."""

    received = False


@contextmanager
def listening() -> Iterator[Interrupts]:
    """Delay Ctrl-C, SIGTERM and SIGHUP, so that the current step is finished and saved before the run ends.

    A second signal raises KeyboardInterrupt at once.
    """
    interrupts = Interrupts()

    def note(number: int, frame: FrameType | None) -> None:
        if _forwarded_again(number):
            return
        _received.append(number)
        if interrupts.received:
            raise KeyboardInterrupt
        interrupts.received = True

    with handled_by(note):
        yield interrupts
