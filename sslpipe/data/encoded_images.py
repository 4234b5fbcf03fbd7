"""Images that a store keeps as JPEG files, decoded when they are indexed.

Does not import torch, so that the decoding processes of prepare start quickly.
"""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslpipe.io.errors import UserError, one_line
from sslpipe.io.own_process import available_cores

if TYPE_CHECKING:
    from torch import Tensor

PER_THREAD = 8
"""Fewest images for which `EncodedImages` starts a further thread (own choice: some milliseconds of work)."""


class EncodedImages:
    """The images [N, C, H, W] of a split, each a JPEG file. Several threads can decode at once."""

    is_in_order = True

    def __init__(
        self, data: NDArray[np.uint8], offsets: NDArray[np.int64], image_shape: tuple[int, int, int], where: str
    ) -> None:
        """data: the files one after the other, memory-mapped, uint8 [bytes]. offsets: where each begins and the last
        one ends, [N + 1]. image_shape: C, H, W. where: name of the file, for errors.
        """
        self._data, self._offsets, self._where = data, offsets, where
        self.shape: tuple[int, ...] = (len(offsets) - 1, *image_shape)
        self.nbytes = int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: NDArray[np.int64] | slice | int) -> NDArray[np.uint8]:
        """Return images, uint8 in memory: [L, C, H, W] for indices [L] or a slice, [C, H, W] for one number.

        Many images are decoded in a thread per core.
        """
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        if not isinstance(index, np.ndarray):
            image: NDArray[np.uint8] = self[np.array([index])][0]
            return image
        images = np.empty((len(index), *self.shape[1:]), np.uint8)
        parts = max(1, min(available_cores(), len(index) // PER_THREAD))
        ends = np.linspace(0, len(index), parts + 1).astype(int).tolist()
        with ThreadPoolExecutor(parts) as pool:
            slices = [slice(*pair) for pair in pairwise(ends)]
            for _ in pool.map(lambda part: self._decode(index[part], images[part]), slices):
                pass
        return images

    def read_into(self, index: NDArray[np.int64], out: "Tensor") -> None:
        """Decode the images with these indices [L] into `out`, uint8 [L, C, H, W] on the CPU, in this thread."""
        self._decode(index, out.numpy())

    def encoded(self, index: NDArray[np.int64]) -> "list[Tensor]":
        """Return the JPEG files of the images with these indices [L], uint8 [bytes] each, in memory."""
        import torch

        return [torch.from_numpy(self._file(place)) for place in index.tolist()]

    def _decode(self, index: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        for place, image in zip(index.tolist(), images, strict=True):
            data = self._file(place).tobytes()
            try:
                decode_jpeg(data, image)
            except Exception as error:  # Pillow raises many types of exceptions for malformed files.
                raise UserError(
                    f"{self._where}: image {place} is not readable ({one_line(error)}); run 'sslpipe prepare' again"
                ) from None

    def _file(self, place: int) -> NDArray[np.uint8]:
        place = range(len(self))[place]
        return np.array(self._data[self._offsets[place] : self._offsets[place + 1]])


def decode_jpeg(data: bytes, image: NDArray[np.uint8]) -> None:
    """Decode a JPEG file into `image`, [C, H, W]. Raises ValueError if it has another shape, OSError if damaged."""
    with Image.open(BytesIO(data), formats=["JPEG"]) as file:
        found = [len(file.getbands()), file.height, file.width]
        if found != list(image.shape):
            raise ValueError(f"{found} found, expected {list(image.shape)}")
        for channel, band in zip(image, file.split(), strict=True):
            channel[:] = np.asarray(band)
