"""Encoding of the images of a store as JPEG, in threads."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslpipe.data.encoded_images import decode_jpeg


class JpegCodec:
    """Encodes images, and decodes them as a store does.

    Colours are stored at full resolution (4:4:4), since at the size of a store's images half of it would be seen; the
    Huffman tables are those of each image, which saves a tenth.
    """

    def __init__(self, quality: int, image_shape: tuple[int, int, int], pool: ThreadPoolExecutor) -> None:
        """quality: 1 to 100. image_shape: C, H, W."""
        self.quality, self.image_shape = quality, image_shape
        self._pool = pool

    def encode(self, images: NDArray[np.uint8]) -> list[bytes]:
        """Return a JPEG file for each of the images [n, C, H, W]."""
        return list(self._pool.map(self._encoded, images))

    def decode(self, files: Sequence[bytes]) -> NDArray[np.uint8]:
        """Return the images [n, C, H, W] that a store has with these files."""
        images = np.empty((len(files), *self.image_shape), np.uint8)
        for _ in self._pool.map(decode_jpeg, files, images):
            pass
        return images

    def _encoded(self, image: NDArray[np.uint8]) -> bytes:
        file = BytesIO()
        picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        picture.save(file, "JPEG", quality=self.quality, subsampling="4:4:4", optimize=True)
        return file.getvalue()


@contextmanager
def jpeg_codec(quality: int | None, image_shape: tuple[int, int, int], threads: int) -> Iterator[JpegCodec | None]:
    """Yield a codec of some threads, which end with the block; None without a quality."""
    if quality is None:
        yield None
        return
    with ThreadPoolExecutor(threads) as pool:
        yield JpegCodec(quality, image_shape, pool)
