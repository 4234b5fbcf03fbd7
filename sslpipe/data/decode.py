"""Image files into uint8 arrays of one size, by several processes. Free of torch, so that these start quickly."""

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

from sslpipe.data.entries import ImageSource, Picture
from sslpipe.io.errors import UserError

CHUNK_BYTES = 4 << 20
CHUNK_IMAGES = 256
"""What a process returns at a time is at most this large (own choice; it bounds the memory)."""
CHUNKS_PER_WORKER = 3
"""Chunks under way for each process: enough that none waits."""
NO_IMAGES = {"EPS", "MPEG", "BUFR", "GRIB", "HDF5", "WMF"}
"""What Pillow recognises and does not decode by itself."""
NO_FILES = {
    stat.S_IFDIR: "Is a directory",
    stat.S_IFIFO: "Is a pipe",
    stat.S_IFSOCK: "Is a socket",
    stat.S_IFCHR: "Is a device",
    stat.S_IFBLK: "Is a device",
}
"""What may have a file's name and is none, in words like those of the system's own errors."""
STRIP_PIXELS = 1 << 22
"""Images are made flat or eight bits deep by this many pixels at a time (own choice: 100 MB at most)."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BrokenImageError(Exception):
    """An image that is left out, and why."""


@cache
def image_formats() -> tuple[str, ...]:
    """The formats that Pillow decodes, the common ones first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NO_IMAGES)


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of image files, in small letters."""
    formats = {*image_formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def has_image_suffix(name: str) -> bool:
    """Whether a file is to be taken as an image by its name alone."""
    return os.path.splitext(name)[1].lower() in image_suffixes()


def is_image(path: Path) -> bool:
    """Whether a file is to be taken as an image: by its suffix, else by its first bytes."""
    if has_image_suffix(path.name):
        return True
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=image_formats()):
            return True
    except Exception:  # Pillow's readers raise whatever a malformed header leads them to.
        return False


def decode(picture: Picture, *, size: int, channels: int) -> NDArray[np.uint8]:
    """One image as [channels, size, size]: its shorter side resized to `size`, then its centre.

    Resizing is bicubic, with antialiasing when it gets smaller. Turned as its EXIF orientation says; of an animation
    the first frame; transparent pixels over white; 16 bits scaled by 1/257. Grey is the luma of ITU-R 601-2.
    Raises BrokenImageError with the reason where it cannot be decoded.
    """
    try:
        if not isinstance(picture, Path):
            return _fitted(Image.fromarray(picture), size, channels)
        check_plain(picture)
        with warnings.catch_warnings(action="ignore"), Image.open(picture, formats=image_formats()) as image:
            # A JPEG far larger than needed is decoded at a half, a quarter or an eighth of its size, many times faster.
            image.draft(None, (2 * size, 2 * size))
            ImageOps.exif_transpose(image, in_place=True)
            return _fitted(image, size, channels)
    except BrokenImageError:
        raise
    except UnidentifiedImageError:
        raise BrokenImageError("not an image that Pillow reads") from None
    except Exception as error:  # Pillow's readers raise whatever malformed content leads them to.
        text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise BrokenImageError(" ".join(text.split())) from None


def check_plain(path: Path) -> None:
    """Raise OSError unless the path leads to a file: what opens a pipe waits for ever, and a device may have no end."""
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, NO_FILES.get(kind, "Is no file"), str(path))


def _fitted(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """[channels, size, size] of an opened image."""
    if image.mode[0] in "IF":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        image = _over_white(image)
    # What is grey becomes colour when it is small: a quarter of the memory, the same pixels.
    mode = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
    if image.mode != mode:  # else a copy is made
        image = image.convert(mode)
    # Equal to resizing first and cropping then, without an intermediate image as long as a strip of 1 x 10,000 needs.
    image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(size, size, channels)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _over_white(image: Image.Image) -> Image.Image:
    """A transparent image over white, in RGB; by strips, since a large one would be there four times over."""
    flat = Image.new("RGB", image.size)
    for top, bottom in _strips(image.height, image.width):
        strip = image.crop((0, top, image.width, bottom)).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top))
    return flat


def _eight_bits(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Deep grey values [H, W] as 0 to 255, by a scale that is the same for every image.

    Whole numbers are taken as 16 bits; fractions lie in [0, 1] or in [0, 255].
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
    """First row, and row after the last, of strips of about STRIP_PIXELS that make up an image."""
    rows = max(1, STRIP_PIXELS // width)
    return ((top, min(height, top + rows)) for top in range(0, height, rows))


@dataclass(frozen=True)
class Decoded:
    """A chunk of a source's images."""

    images: NDArray[np.uint8]
    """[n, C, H, W]: those that could be decoded."""
    index: NDArray[np.int64]
    """[n]: which entries of the source these are."""
    broken: dict[int, str]
    """Of the others: the entry's index and the reason."""


def decode_chunk(index: NDArray[np.int64], pictures: Sequence[Picture], size: int, channels: int) -> Decoded:
    """The images of some entries; index and pictures have one item each."""
    images = np.empty((len(index), channels, size, size), np.uint8)
    good: list[int] = []
    broken: dict[int, str] = {}
    for entry, picture in zip(index.tolist(), pictures, strict=True):
        try:
            images[len(good)] = decode(picture, size=size, channels=channels)
            good.append(entry)
        except BrokenImageError as error:
            broken[entry] = str(error)
    return Decoded(images[: len(good)], np.array(good, np.int64), broken)


class Decoder:
    """Decodes a source's images in several processes, or in this one (`workers` 1, or a source of arrays)."""

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
            # Spawned and not forked: this process has threads (the progress bar), whose locks a fork would freeze.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def decode(self, order: NDArray[np.int64]) -> Iterator[Decoded]:
        """The entries `order` ([N] indices), chunk by chunk in this order, whatever the number of processes."""
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
                f"prepare: a decoding process died, perhaps for want of memory; {self.workers} processes were at work, "
                "try fewer with --workers (with 1, the image at fault ends this process itself)"
            ) from None


def _start_worker() -> None:
    """In a new process: leave Ctrl-C to the parent, and end when the parent has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
