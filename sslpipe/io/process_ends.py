"""Why the processes of a command ended: which one is the cause, the exit code of all, and one line about it."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sslpipe.io.errors import LOST

RESUMES = "the next run resumes from the last checkpoint"


@dataclass(frozen=True, kw_only=True)
class End:
    """How one of several processes ended."""

    rank: int
    code: int
    """Exit code; minus the number of the signal that ended the process."""
    told: bool = False
    """Whether it was sent SIGTERM because another process had failed."""
    killed: bool = False
    """Whether it was sent SIGKILL because it went on after that."""

    def is_failure(self, signals: Sequence[int]) -> bool:
        """Return whether the end is neither in order nor that of one of `signals`, which were forwarded to all."""
        return self.code not in {0, *(code for number in signals for code in (-number, 128 + number))}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of all processes."""

    code: int
    """Exit code for the command: that of the cause, 128 + the number of a signal, or 1 if a process did not answer."""
    line: str = ""
    """One line about the cause; empty if there is none, or if process 0 failed, which has printed its own line."""
    cause: int = 0
    """Rank of the process that the line is about."""

    @classmethod
    def of(cls, ends: Sequence[End], signals: Sequence[int], stderr: Sequence[str]) -> Self:
        """Return the result of processes.

        ends: one for each process, in the order in which they ended. signals: numbers of the signals that were
        forwarded to all of them. stderr: what each process wrote there, by rank; "" for process 0.

        The cause is the first process that failed by itself; if the others lost it, the one that had to be killed.
        """
        count, ended = len(ends), f"all others were ended, {RESUMES}"
        first = next(end for end in ends if end.rank == 0)
        if failed := [end for end in ends if end.is_failure(signals) and end.code != LOST and not end.told]:
            cause = failed[0]
            if cause.code == 2 and first.code == 2 and not first.told:
                cause = first  # all have met the same error of the user
            if cause.code < 0:
                # Libraries say why they abort, and some abort while an exception ends the process.
                written = stderr[cause.rank]
                error = _error(written, cause.rank) or (_last(written) if _name(-cause.code) == "SIGABRT" else "")
                how = _name(-cause.code) + (f" after {error!r}" if error else "")
                line = f"process {cause.rank} of {count} was killed ({how}); {ended}"
                return cls(code=128 - cause.code, line=line, cause=cause.rank)
            if not cause.rank:
                return cls(code=cause.code)
            line = _with_rank(_message(stderr[cause.rank], cause), f"process {cause.rank} of {count}")
            return cls(code=cause.code, line=line, cause=cause.rank)
        if silent := sorted((end for end in ends if end.told), key=lambda end: not end.killed):
            line = f"process {silent[0].rank} of {count} did not answer; {ended}"
            return cls(code=128 + signals[0] if signals else 1, line=line, cause=silent[0].rank)
        if signals:
            code = 128 + signals[0] if first.code == LOST else first.code
            return cls(code=code if code >= 0 else 128 - code)
        if lost := [end for end in ends if end.code == LOST]:
            line = f"process {lost[0].rank} of {count} lost the others, none of which failed; {RESUMES}"
            return cls(code=1, line=line, cause=lost[0].rank)
        return cls(code=0)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _with_rank(message: str, process: str) -> str:
    """Return a message with the process before it, and `error: ` before both if the message began with that."""
    text = message.removeprefix("error: ")
    return f"{'error: ' if text != message else ''}{process}: {text}"


def _message(stderr: str, end: End) -> str:
    """Return the error of a process, else the last line that it wrote to stderr."""
    return _error(stderr, end.rank) or _last(stderr) or f"ended with exit code {end.code}, without a message"


def _last(stderr: str) -> str:
    return next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")


def _error(stderr: str, rank: int) -> str:
    """Return the last line that begins with `error: `, else the last exception of a traceback, else "".

    Libraries write warnings after them. torch.distributed begins the lines of a traceback with the rank.
    """
    lines = [line.removeprefix(f"[rank{rank}]: ").rstrip() for line in stderr.splitlines()]
    lines = [line for line in lines if line]
    if errors := [line for line in lines if line.startswith("error: ")]:
        return errors[-1]
    tracebacks = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return next((line for line in lines[tracebacks[-1] + 1 :] if not line[0].isspace()), "") if tracebacks else ""
