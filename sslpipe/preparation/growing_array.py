"""A file of rows to which rows are appended, and whose rows of an earlier run are read again."""

import os
from io import BytesIO
from pathlib import Path
from types import TracebackType
from zlib import crc32

import numpy as np
from numpy.typing import NDArray


class GrowingArray:
    """An .npy file of uint8 rows that are appended; the header is rewritten when their number is known.

    What a file has from an earlier run is overwritten, unless `reread` finds it as it was written. The file is not
    memory-mapped, because then a full disk ends the process with a signal.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...]) -> None:
        """row_shape: [C, H, W] for rows that are images, [] for rows that are bytes."""
        self.shape = (0, *row_shape)
        self._row = int(np.prod(row_shape, dtype=np.int64))
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._start = len(self._header())
        self._file.write(self._header())

    def __enter__(self) -> "GrowingArray":
        return self

    def append(self, data: bytes) -> None:
        """Append the bytes of whole rows; they are with the operating system when this returns."""
        self._file.seek(self._end())
        self._file.write(data)
        self._file.flush()
        self._count(len(data))

    def reread(self, rows: int, checksum: int) -> NDArray[np.uint8] | None:
        """Return the next rows [rows, …] of an earlier run; None if there are none with this CRC-32."""
        self._file.seek(self._end())
        data = self._file.read(rows * self._row)
        if len(data) < rows * self._row or crc32(data) != checksum:
            return None
        self._count(len(data))
        return np.frombuffer(data, np.uint8).reshape(rows, *self.shape[1:])

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._file.write(self._header())
                self._file.flush()
                if os.fstat(self._file.fileno()).st_size > self._end():
                    self._file.truncate(self._end())

    def _count(self, size: int) -> None:
        self.shape = (self.shape[0] + size // self._row, *self.shape[1:])

    def _end(self) -> int:
        return self._start + self.shape[0] * self._row

    def _header(self) -> bytes:
        """Return the header; numpy pads it for a growing first axis, so its length is constant."""
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": self.shape})
        return header.getvalue()
