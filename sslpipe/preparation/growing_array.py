"""A file of images to which images are appended."""

from io import BytesIO
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


class GrowingArray:
    """An .npy file of uint8 images that are appended; the header is rewritten when their number is known.

    The file is not memory-mapped, because then a full disk ends the process with a signal.
    """

    def __init__(self, path: Path, image_shape: tuple[int, int, int]) -> None:
        self.shape = (0, *image_shape)
        self._file = path.open("wb")
        self._file.write(self._header())

    def __enter__(self) -> "GrowingArray":
        return self

    def append(self, images: NDArray[np.uint8]) -> None:
        """Append images [n, C, H, W], which must be contiguous."""
        self._file.write(images.data)
        self.shape = (self.shape[0] + len(images), *self.shape[1:])

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._file.write(self._header())

    def _header(self) -> bytes:
        """Return the header; numpy pads it for a growing first axis, so its length is constant."""
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": self.shape})
        return header.getvalue()
