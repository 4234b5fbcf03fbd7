"""The files of the stage features: rows are appended as they are computed, and a killed run goes on after the last.

While a stage runs, its files are in the folder of its checkpoint, which is outside every output; when all rows are
there, they become the output.
"""

import errno
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import Split
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import disk_errors, read_json, write_json

NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP}
"""Errors of a file that cannot have a second name, such as on another disk; it is copied."""
DONE = "done.json"
"""File with the number of rows of each split that are on the disk."""
COPIED = 1 << 24
"""Bytes that are copied at a time."""


class FeatureFiles:
    """One .npy file for each split, float16 [N, D], to which rows are appended in their order.

    Only what `save` has written to the disk is restored: a power failure may lose data of files, though not their
    lengths.
    """

    done: dict[Split, int]
    """Number of rows of each split that are written."""

    def __init__(self, checkpoint: Checkpoint, folder: Path, counts: Mapping[Split, int], dimension: int) -> None:
        """Restore the rows in a checkpoint's folder, if there are any.

        checkpoint: entered; without a folder of its own, the rows are in `folder`. folder: the new output folder.
        counts: number of rows of each split. dimension: D.
        """
        self.counts, self.dimension = counts, dimension
        self._checkpoint, self._folder = checkpoint, folder
        self._file: BinaryIO | None = None
        self._split: Split | None = None
        self._saved_at = time.monotonic()
        self.done = dict.fromkeys(counts, 0) if checkpoint.folder is None else self._restored(checkpoint.folder)
        self.saved = sum(self.done.values())
        """Number of rows that the next run finds, if this one is stopped."""

    def __enter__(self) -> Self:
        """Return the files; they are closed at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file that is open."""
        with suppress(OSError):
            self._close()

    @property
    def total(self) -> int:
        """Number of rows of all splits."""
        return sum(self.counts.values())

    def append(self, split: Split, rows: NDArray[np.float16]) -> None:
        """Write the next rows [B, D] of a split.

        If they cannot be written to the checkpoint's folder, they are written to the output, and a line says so.
        """
        try:
            self._write(split, rows)
        except UserError as error:
            if self._checkpoint.folder is None:
                raise
            self._leave_checkpoint(error)
            self._write(split, rows)
        self.done[split] += len(rows)

    def due(self) -> bool:
        """Whether it is time for `save`.

        The interval does not grow with the time that a save takes, as `Saving` has it: a save waits for the rows since
        the last one alone, so fewer saves would wait as long.
        """
        return self._checkpoint.folder is not None and (
            time.monotonic() - self._saved_at >= self._checkpoint.every_seconds
        )

    def save(self) -> None:
        """Make sure that all rows so far are on the disk and are found by the next run."""
        if self._checkpoint.folder is None:
            return
        try:
            if self._file is not None:
                with disk_errors(self._path(self._checkpoint.folder, self._split)):
                    os.fsync(self._file.fileno())
            write_json(self._checkpoint.folder / DONE, self.done)
            self.saved = sum(self.done.values())
        except UserError as error:
            info(f"{error}; the run goes on, but if it is stopped it resumes after {self.saved} images")
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Put the complete files into the output folder, as <split>/features.npy; the checkpoint keeps its own."""
        for split, count in self.counts.items():
            assert self.done[split] == count
            if not count:
                self.append(split, np.empty((0, self.dimension), np.float16))
        self._close()
        if (source := self._checkpoint.folder) is None:
            return
        for split in self.counts:
            path = self._path(self._folder, split)
            with disk_errors(path):
                path.parent.mkdir()
                _link(self._path(source, split), path)

    def _restored(self, folder: Path) -> dict[Split, int]:
        """Return the number of rows of each split in the checkpoint's folder; 0 if they cannot be used."""
        done = dict.fromkeys(self.counts, 0)
        try:
            found = read_json(folder / DONE) if (folder / DONE).exists() else {}
            for split, count in self.counts.items():
                rows, path = int(found.get(split, 0)), self._path(folder, split)
                if 0 < rows <= count and path.stat().st_size >= len(self._header(split)) + rows * self._row_bytes:
                    done[split] = rows
        except (UserError, OSError, ValueError, AttributeError) as error:
            info(f"{folder}: not readable ({error}), so the features are computed from the beginning")
            return dict.fromkeys(self.counts, 0)
        return done

    @property
    def _row_bytes(self) -> int:
        return 2 * self.dimension

    def _header(self, split: Split) -> bytes:
        """Return the beginning of a split's .npy file."""
        header = BytesIO()
        shape = (self.counts[split], self.dimension)
        description = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        return header.getvalue()

    def _path(self, folder: Path, split: Split | None) -> Path:
        """Return the path of a split's file: the checkpoint has them side by side, the output in folders."""
        return folder / f"{split}.npy" if folder == self._checkpoint.folder else folder / str(split) / "features.npy"

    def _write(self, split: Split, rows: NDArray[np.float16]) -> None:
        path = self._path(self._checkpoint.folder or self._folder, split)
        with disk_errors(path):
            if split != self._split or self._file is None:
                self._close()
                self._open(split, path)
            assert self._file is not None
            self._file.write(np.ascontiguousarray(rows, dtype="<f2").tobytes())
            self._file.flush()

    def _open(self, split: Split, path: Path) -> None:
        """Open a split's file behind its last row."""
        path.parent.mkdir(parents=True, exist_ok=True)
        header, rows = self._header(split), self.done[split]
        self._file, self._split = path.open("r+b" if rows else "wb"), split
        if rows:
            self._file.truncate(len(header) + rows * self._row_bytes)
            self._file.seek(0, os.SEEK_END)
        else:
            self._file.write(header)

    def _close(self) -> None:
        file, self._file, self._split = self._file, None, None
        if file is not None:
            file.close()

    def _leave_checkpoint(self, error: UserError) -> None:
        """Copy all rows to the output folder, and go on there."""
        info(f"{error}; the run goes on, but if it is stopped it starts from the beginning")
        source, self._checkpoint.folder = self._checkpoint.folder, None
        assert source is not None
        with suppress(OSError):  # of the rows that could not be written
            self._close()
        for split, rows in self.done.items():
            path = self._path(self._folder, split)
            if rows:
                with disk_errors(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _copy(source / f"{split}.npy", path, len(self._header(split)) + rows * self._row_bytes)
        shutil.rmtree(source, ignore_errors=True)


def _copy(source: Path, target: Path, size: int) -> None:
    """Copy the first `size` bytes of a file."""
    with source.open("rb") as read, target.open("wb") as written:
        while size and (part := read.read(min(size, COPIED))):
            written.write(part)
            size -= len(part)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that is not possible."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _copy(source, target, source.stat().st_size)
