"""A user's mistake, said in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """What a person can put right: one line that names the key or file, what was found and what is expected.

    The command line prints it on stderr and ends with exit code 2, without a traceback.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for the end of an error line: the nearest valid name, and all of them where they are few."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    listed = f"; known: {', '.join(names)}" if names and len(names) <= 24 else ""
    return (f"; did you mean '{close[0]}'?" if close else "") + listed
