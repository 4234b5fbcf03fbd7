"""Errors that the user can correct."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error that the user can correct: one line with the key or file, what was found and what is expected.

    The command line prints it to stderr and exits with code 2, without a traceback.
    """


class NothingLearnedError(UserError):
    """A training run whose model is of no use; the error removes the run's checkpoint, so that no run resumes it."""


class ProcessLostError(Exception):
    """Another of the processes that train together has ended or does not answer; see `LOST`."""


LOST = 75
"""Exit code of a process that ends because another one is gone or does not answer; such an end is never the cause (own
choice: EX_TEMPFAIL of sysexits.h, a failure after which the same command can succeed)."""


def one_line(error: Exception) -> str:
    """Return an error's message on one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint for the end of an error message: the most similar valid name, and all valid names if few."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    listed = f"; known: {', '.join(names)}" if names and len(names) <= 24 else ""
    return (f"; did you mean '{close[0]}'?" if close else "") + listed
