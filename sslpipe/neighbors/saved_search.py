"""Saved state of a neighbour search, from which a search that was stopped goes on."""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_file, disk_errors
from sslpipe.io.saving import SECONDS, Saving


class SavedSearch:
    """Arrays in a file that is replaced as a whole, and an index in another one."""

    def __init__(self, folder: Path | None, every_seconds: float = SECONDS) -> None:
        """folder: None saves nothing. every_seconds: minimum number of seconds between saves, see `Saving`."""
        self.folder, self._saving = folder, Saving(every_seconds)

    def due(self) -> bool:
        """Return whether it is time to save."""
        return self.folder is not None and self._saving.due()

    def load(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that were saved last; {} if there are none or none that can be read."""
        if self.folder is None or not (path := self.folder / "search.npz").exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            info(f"{path}: not readable ({error}), so the search starts from the beginning")
            return {}

    def save(self, state: Mapping[str, NDArray[Any]] | None = None, **arrays: NDArray[Any]) -> None:
        """Replace the arrays; if they cannot be written the search goes on, and a line says so."""
        if self.folder is not None:
            content = {**(state or {}), **arrays}
            with self._saving.timed():
                self._write(self.folder / "search.npz", lambda path: _savez(path, content))

    def index(self) -> Path | None:
        """Return the file of a saved index, if there is one."""
        path = self.folder / "index.faiss" if self.folder else None
        return path if path is not None and path.exists() else None

    def save_index(self, write: Callable[[Path], None]) -> None:
        """Let `write` write an index to a path; if that fails the search goes on, and a line says so."""
        if self.folder is not None:
            self._write(self.folder / "index.faiss", write)

    def _write(self, path: Path, write: Callable[[Path], None]) -> None:
        try:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as partial:
                write(partial)
        except (UserError, OSError, RuntimeError) as error:
            info(f"{error}; the search goes on, but if it is stopped it starts from what was saved before")


def _savez(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to a file of exactly this name, and make sure that they are on the disk."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())


NOT_SAVED = SavedSearch(None)
"""Saves nothing."""
