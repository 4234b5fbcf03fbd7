"""Decoding of image files to uint8 arrays of one size, in several processes.

Does not import torch, so that the processes start quickly.
"""

import errno
import multiprocessing
import os
import signal
import stat
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sslpipe.data.entries import EncodedImage, ImageSource
from sslpipe.io.errors import UserError

CHUNK_BYTES = 4 << 20
CHUNK_IMAGES = 256
"""Maximum size of the result of a task of a process, in bytes and images (own choice, to bound the memory)."""
CHUNKS_PER_WORKER = 3
"""Number of pending chunks per process, so that no process waits."""
NOT_DECODED = {"EPS", "MPEG", "BUFR", "GRIB", "HDF5", "WMF"}
"""Formats that Pillow recognises but does not decode without other programs."""
NOT_A_FILE = {
    stat.S_IFDIR: "Is a directory",
    stat.S_IFIFO: "Is a pipe",
    stat.S_IFSOCK: "Is a socket",
    stat.S_IFCHR: "Is a device",
    stat.S_IFBLK: "Is a device",
}
"""Error texts for directory entries that are not regular files."""
STRIP_PIXELS = 1 << 22
"""Number of pixels that are converted at a time from transparent or deep images (own choice: at most 100 MB)."""


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BrokenImageError(Exception):
    """The reason why an image cannot be decoded."""


@cache
def image_formats() -> tuple[str, ...]:
    """Return the formats that Pillow decodes, the common ones first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files, in lower case."""
    formats = {*image_formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def has_image_suffix(name: str) -> bool:
    """Return whether a file is an image by its name."""
    return os.path.splitext(name)[1].lower() in image_suffixes()


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its suffix or else by its first bytes."""
    if has_image_suffix(path.name):
        return True
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=image_formats()):
            return True
    except Exception:  # Pillow raises many types of exceptions for malformed headers.
        return False


def decode(source: EncodedImage, *, size: int, channels: int) -> NDArray[np.uint8]:
    """Decode an image to [channels, size, size]: the shorter side is resized to `size`, and the centre is cropped.

    Resizing is bicubic, with antialiasing. The EXIF orientation is applied, the first frame of an animation is taken,
    transparent images are composited over white, and values of 16 bits are divided by 257. Grey is the luma of ITU-R
    601-2. Raises BrokenImageError with the reason if the image cannot be decoded.
    """
    try:
        if not isinstance(source, Path):
            return _fitted(Image.fromarray(source), size, channels)
        check_plain(source)
        with warnings.catch_warnings(action="ignore"), Image.open(source, formats=image_formats()) as image:
            # Decodes a much larger JPEG at a half, a quarter or an eighth of its size, which is many times faster.
            image.draft(None, (2 * size, 2 * size))
            ImageOps.exif_transpose(image, in_place=True)
            return _fitted(image, size, channels)
    except BrokenImageError:
        raise
    except UnidentifiedImageError:
        raise BrokenImageError("not an image that Pillow reads") from None
    except Exception as error:  # Pillow raises many types of exceptions for malformed files.
        text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise BrokenImageError(" ".join(text.split())) from None


def check_plain(path: Path) -> None:
    """Raise OSError if the path is not a regular file: reading a pipe may block, and a device may have no end."""
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, NOT_A_FILE.get(kind, "Is no file"), str(path))


def _fitted(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """Return an opened image as [channels, size, size]."""
    if image.mode[0] in "IF":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        image = _over_white(image)
    # Grey images are converted to colour after resizing: the same pixels, with less memory.
    mode = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
    if image.mode != mode:  # convert() would copy the image
        image = image.convert(mode)
    # Equal to resizing and then cropping, without the large intermediate image of, for example, 1 x 10,000 pixels.
    image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(size, size, channels)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _over_white(image: Image.Image) -> Image.Image:
    """Composite a transparent image over white, in RGB; in strips, to avoid several copies of a large image."""
    flat = Image.new("RGB", image.size)
    for top, bottom in _strips(image.height, image.width):
        strip = image.crop((0, top, image.width, bottom)).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top))
    return flat


def _eight_bits(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale grey values [H, W] of more than 8 bits to 0 to 255, by a factor that does not depend on the image.

    Integers have 16 bits; floats are in [0, 1], or else in [0, 255]. Raises BrokenImageError for other values.
    """
    low, high = (float(value) for value in (pixels.min(), pixels.max()))
    limit = 65535.0 if np.issubdtype(pixels.dtype, np.integer) else 1.0 if high <= 1.0 else 255.0
    if not (low >= 0 and high <= limit):
        raise BrokenImageError(f"{pixels.dtype} values from {low:g} to {high:g}, expected 0 to {limit:g}")
    flat = np.empty(pixels.shape, np.uint8)
    for top, bottom in _strips(*pixels.shape):
        flat[top:bottom] = np.rint(pixels[top:bottom].astype(np.float64) * (255.0 / limit))
    return flat


def _strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Return the first row and the end of each strip of about STRIP_PIXELS of an image."""
    rows = max(1, STRIP_PIXELS // width)
    return ((top, min(height, top + rows)) for top in range(0, height, rows))


@dataclass(frozen=True)
class Decoded:
    """The decoded images of a chunk of a source's entries."""

    images: NDArray[np.uint8]
    """Images that could be decoded, [n, C, H, W]."""
    index: NDArray[np.int64]
    """Their indices among the entries of the source, [n]."""
    broken: dict[int, str]
    """Index of each entry that could not be decoded → the reason."""


def decode_chunk(index: NDArray[np.int64], images: Sequence[EncodedImage], size: int, channels: int) -> Decoded:
    """Decode the images of some entries. index: [n] indices of the entries; images: n images."""
    decoded = np.empty((len(index), channels, size, size), np.uint8)
    good: list[int] = []
    broken: dict[int, str] = {}
    for entry, image in zip(index.tolist(), images, strict=True):
        try:
            decoded[len(good)] = decode(image, size=size, channels=channels)
            good.append(entry)
        except BrokenImageError as error:
            broken[entry] = str(error)
    return Decoded(decoded[: len(good)], np.array(good, np.int64), broken)


class Decoder:
    """Decodes the images of a source in several processes; in this process if `workers` is 1 or they are arrays."""

    def __init__(self, source: ImageSource, *, size: int, channels: int, workers: int) -> None:
        self.source = source
        self.size = size
        self.channels = channels
        self.chunk = min(CHUNK_IMAGES, max(1, CHUNK_BYTES // (channels * size * size)))
        chunks = -(-len(source.entries) // self.chunk)
        from_files = bool(source.entries) and isinstance(source.load(0), Path)
        self.workers = min(workers, chunks) if from_files else 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Decoder":
        if self.workers > 1:
            # Spawned, not forked: this process has threads (the progress bar), whose locks a fork may copy while held.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def decode(self, order: NDArray[np.int64]) -> Iterator[Decoded]:
        """Yield the entries `order`, [N] indices, in chunks and in this order for any number of processes."""
        chunks = (order[start : start + self.chunk] for start in range(0, len(order), self.chunk))
        jobs = ((index, [self.source.load(i) for i in index.tolist()], self.size, self.channels) for index in chunks)
        if self._pool is None:
            yield from (decode_chunk(*job) for job in jobs)
            return
        pending: deque[Future[Decoded]] = deque()
        try:
            for job in jobs:
                pending.append(self._pool.submit(decode_chunk, *job))
                if len(pending) >= CHUNKS_PER_WORKER * self.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                f"prepare: one of {self.workers} decoding processes died, possibly for lack of memory; use fewer with "
                "--workers (with 1, the image that causes it ends prepare itself)"
            ) from None


def _start_worker() -> None:
    """Initialise a new process: ignore Ctrl-C, which the parent handles, and exit when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
