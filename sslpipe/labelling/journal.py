"""The journal of the page: every action is on disk before it is answered, one line of JSON each."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslpipe.io.errors import UserError
from sslpipe.io.files import append_bytes, disk_errors, write_bytes

FORM = 1
"""Form of the entries; a journal of another form is not read."""


class Journal:
    """Entries of a file, in their order; the first one tells what there was before."""

    def __init__(self, path: Path) -> None:
        """Read the entries; a last line that a killed process left unfinished was never answered, and is removed.

        Raises UserError for a file that cannot be read or is not such a journal.
        """
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._size = 0
        self._ids: set[str] = set()
        if path.exists():
            with disk_errors(path):
                data = path.read_bytes()
            self._size = data.rfind(b"\n") + 1
            for number, line in enumerate(data[: self._size].splitlines(), start=1):
                self._add(_entry(line, path, number))
            if self._size < len(data):
                with disk_errors(path):
                    os.truncate(path, self._size)
        if self.entries and self.entries[0].get("form") != FORM:
            found = self.entries[0].get("form")
            raise UserError(f"{path} line 1: form {found!r} found, expected {FORM}; move the file away to begin anew")

    def begin(self, entry: Mapping[str, Any]) -> None:
        """Write the first entry of a new journal. Raises UserError if the file cannot be written."""
        first = {"form": FORM, **entry}
        data = _line(first)
        write_bytes(self.path, data)
        self.entries, self._size = [first], len(data)
        self._ids.clear()

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Append an entry and return it, with an "id" if it has none; it is on disk then, even if the power fails.

        Raises UserError if the file cannot be written, or another program has changed it; the journal is as before.
        """
        added = {"id": secrets.token_hex(8), **entry}
        data = _line(added)
        append_bytes(self.path, data, size=self._size)
        self._size += len(data)
        self._add(added)
        with disk_errors(self.path), self.path.open("ab") as file:
            os.fsync(file.fileno())
        return added

    def has(self, identity: str) -> bool:
        """Return whether there is an entry with this "id"."""
        return identity in self._ids

    def _add(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)
        self._ids.add(str(entry.get("id")))

    def standing(self, *, after: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the entries that are not undone, in their order; only those after an entry, if one is given."""
        undone = {entry["undoes"] for entry in self.entries if entry.get("do") == "undo"}
        first = 1 + next((i for i, entry in enumerate(self.entries) if entry is after), -1)
        return [entry for entry in self.entries[first:] if entry.get("id") not in undone]


def _entry(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise UserError(f"{path} line {number}: not an entry of a journal; move the file away to begin anew")
    return entry


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
