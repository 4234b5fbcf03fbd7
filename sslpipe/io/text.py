"""Names and numbers in messages of one line."""

from collections.abc import Iterable

LISTED = 4
"""Maximum number of names in a message (own choice)."""


def shown(name: str) -> str:
    """Return a name for a message of one line: quoted if it has line breaks or bytes that are not UTF-8."""
    return name if name.isprintable() else repr(name)


def counted(count: int, noun: str) -> str:
    """Return a number and a noun, which has an s unless the number is 1."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Return names for a message of one line, a few of them if there are many."""
    found = [shown(name) for name in names]
    more = f" and {len(found) - LISTED:,} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + more


def valid_text(name: str) -> str:
    r"""Return a file's name as valid Unicode: bytes that are not UTF-8 are written as \xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
