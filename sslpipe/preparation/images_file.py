"""The file with the images of a split, as pixels or as JPEG, which is written chunk by chunk."""

from array import array
from pathlib import Path
from types import TracebackType
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sslpipe.io.files import write_array
from sslpipe.preparation.growing_array import GrowingArray
from sslpipe.preparation.journal import Record
from sslpipe.preparation.jpeg_codec import JpegCodec


class ImagesFile:
    """images.npy of a split: pixels uint8 [N, C, H, W], or the bytes of JPEG files one after the other, uint8 [bytes].

    For JPEG the file offsets.npy, int64 [N + 1], is written at the end: image i has the bytes offsets[i] to
    offsets[i + 1] - 1.
    """

    def __init__(self, folder: Path, image_shape: tuple[int, int, int], codec: JpegCodec | None) -> None:
        """image_shape: C, H, W. codec: None for pixels."""
        self._folder, self._codec = folder, codec
        self._array = GrowingArray(folder / "images.npy", () if codec else image_shape)
        self._sizes = array("q")

    def __enter__(self) -> "ImagesFile":
        return self

    def append(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], list[int], int]:
        """Append images [n, C, H, W]; return them as they will be read, their sizes in bytes and their CRC-32."""
        if self._codec is None:
            data, sizes = images.tobytes(), [images[:1].nbytes] * len(images)
        else:
            files = self._codec.encode(images)
            data, sizes = b"".join(files), list(map(len, files))
            images = self._codec.decode(files)
        self._array.append(data)
        self._sizes.extend(sizes)
        return images, sizes, crc32(data)

    def reread(self, record: Record) -> NDArray[np.uint8] | None:
        """Return the images of the next chunk as an earlier run wrote them; None if they are not all there."""
        if self._codec is None:
            images = self._array.reread(len(record.sizes), record.checksum)
        else:
            rows = self._array.reread(sum(record.sizes), record.checksum)
            ends = np.cumsum(record.sizes, dtype=np.int64)
            files = [] if rows is None else [part.tobytes() for part in np.split(rows, ends)[:-1]]
            images = None if rows is None else self._codec.decode(files)
        if images is not None:
            self._sizes.extend(record.sizes)
        return images

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._array.__exit__(kind, error, trace)
        if kind is None and self._codec is not None:
            offsets = np.concatenate([[0], np.cumsum(np.array(self._sizes, np.int64))])
            write_array(self._folder / "offsets.npy", offsets.astype(np.int64))
