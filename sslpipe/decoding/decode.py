"""Decoding of image files to uint8 arrays of one size, in several processes.

Does not import torch, so that the processes start quickly.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sslpipe.decoding.entries import EncodedImage, Entry, ImageSource
from sslpipe.decoding.image_formats import HEIC_SUFFIXES, BrokenImageError
from sslpipe.decoding.image_info import ImageInfo, digest_of, is_colour
from sslpipe.decoding.pixels import Form, Pixels, read_pixels, reason_of
from sslpipe.io.errors import UserError

CHUNK_BYTES = 4 << 20
CHUNK_IMAGES = 256
"""Maximum size of the result of a task of a process, in bytes and images (own choice, to bound the memory)."""
CHUNKS_PER_WORKER = 3
"""Number of pending chunks per process, so that no process waits."""
DEADLY = "it ends the process that decodes it: a damaged file, or one that needs more memory than there is"
MOST_DEADLY = 20
"""Number of such images from which on something else is wrong, such as too little memory for any image (own choice)."""


def decode(source: EncodedImage, *, size: int, channels: int) -> NDArray[np.uint8]:
    """Decode an image to [channels, size, size], without a range of values; see `decode_with_info`."""
    return decode_with_info(source, Form(size=size, channels=channels))[0]


def decode_with_info(source: EncodedImage, form: Form) -> tuple[NDArray[np.uint8], ImageInfo]:
    """Decode an image to [channels, size, size]: the shorter side is resized to `size`, and the centre is cropped.

    Resizing is bicubic, with antialiasing. Grey is the luma of ITU-R 601-2. `read_pixels` reads files.
    Raises BrokenImageError with the reason if the image cannot be decoded.
    """
    try:
        if isinstance(source, Path):
            pixels = read_pixels(source, form)
        else:
            image = Image.fromarray(source)
            pixels = Pixels(image=image, image_info=ImageInfo(size=image.size))
        array, colour = _fitted(pixels, form)
    except BrokenImageError:
        raise
    except Exception as error:  # Pillow raises many types of exceptions for malformed files.
        raise BrokenImageError(reason_of(error)) from None
    return array, replace(pixels.image_info, digest=digest_of(array), colour=colour)


def _fitted(pixels: Pixels, form: Form) -> tuple[NDArray[np.uint8], bool]:
    """Return an opaque image as [channels, size, size], and whether it is in colour."""
    image, final = pixels.image, "L" if form.channels == 1 else "RGB"
    has_colour = image.mode not in ("1", "L")
    if pixels.srgb:
        # Converted to sRGB after resizing: nearly the same pixels, many times faster.
        small = pixels.srgb(_resized(image, form.size))
        colour = has_colour and is_colour(_channels_first(small))
    else:
        # Grey images are converted to colour after resizing: the same pixels, with less memory.
        small = _resized(image, form.size, final if has_colour else "L")
        coloured = _resized(image, form.size, "RGB") if has_colour and final == "L" else small
        colour = has_colour and is_colour(_channels_first(coloured))
    return _channels_first(small.convert(final)), colour


def _resized(image: Image.Image, size: int, mode: str | None = None) -> Image.Image:
    """Resize the shorter side of an image to `size` and crop it to its centre, after conversion to a mode."""
    if mode and image.mode != mode:  # convert() would copy the image
        image = image.convert(mode)
    # Equal to resizing and then cropping, without the large intermediate image of, for example, 1 x 10,000 pixels.
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def _channels_first(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image as [C, H, W]."""
    array = np.asarray(image).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


@dataclass(frozen=True)
class Decoded:
    """The decoded images of a chunk of a source's entries."""

    images: NDArray[np.uint8]
    """Images that could be decoded, [n, C, H, W]."""
    index: NDArray[np.int64]
    """Their indices among the entries of the source, [n]."""
    broken: dict[int, str]
    """Index of each entry that could not be decoded → the reason."""
    image_info: list[ImageInfo]
    """What is known of each of the n images beside its pixels."""


def decode_chunk(index: NDArray[np.int64], images: Sequence[EncodedImage], form: Form) -> Decoded:
    """Decode the images of some entries. index: [n] indices of the entries; images: n images."""
    decoded = np.empty((len(index), form.channels, form.size, form.size), np.uint8)
    good: list[int] = []
    image_info: list[ImageInfo] = []
    broken: dict[int, str] = {}
    for entry, image in zip(index.tolist(), images, strict=True):
        try:
            decoded[len(good)], known = decode_with_info(image, form)
            good.append(entry)
            image_info.append(known)
        except BrokenImageError as error:
            broken[entry] = str(error)
    return Decoded(decoded[: len(good)], np.array(good, np.int64), broken, image_info)


Job = tuple[NDArray[np.int64], Sequence[EncodedImage], Form]
"""The arguments of `decode_chunk`."""


class Decoder:
    """Decodes the images of a source in several processes; in this process if `workers` is 1 or they are arrays.

    An image at which its process ends, such as a damaged HEIC file at which the library fails, is a broken one. Files
    that are HEIC by their names are therefore never decoded in this process.
    """

    def __init__(self, source: ImageSource, form: Form, *, workers: int) -> None:
        self.source, self.form = source, form
        self.chunk = min(CHUNK_IMAGES, max(1, CHUNK_BYTES // (form.channels * form.size * form.size)))
        chunks = -(-len(source.entries) // self.chunk)
        from_files = bool(source.entries) and isinstance(source.load(0), Path)
        self.workers = min(workers, chunks) if from_files else 1
        self._apart = self.workers > 1 or (from_files and any(map(_is_heic, source.entries)))
        self._pool: ProcessPoolExecutor | None = None
        self._deadly = 0

    def __enter__(self) -> "Decoder":
        if self._apart:
            with _signals_blocked():
                resource_tracker.ensure_running()  # before the others, since its start unblocks signals
            self._start()
        return self

    def _start(self) -> None:
        # Spawned, not forked: this process has threads (the progress bar), whose locks a fork may copy while held.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)

    def _restart(self) -> None:
        assert self._pool is not None
        self._pool.shutdown(cancel_futures=True)
        self._start()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def decode(self, order: NDArray[np.int64]) -> Iterator[Decoded]:
        """Yield the entries `order`, [N] indices, in chunks and in this order for any number of processes."""
        chunks = (order[start : start + self.chunk] for start in range(0, len(order), self.chunk))
        jobs = ((index, [self.source.load(i) for i in index.tolist()], self.form) for index in chunks)
        if self._pool is None:
            yield from (decode_chunk(*job) for job in jobs)
            return
        pending: deque[tuple[Job, Future[Decoded]]] = deque()
        for job in jobs:
            pending.append((job, self._submitted(job)))
            if len(pending) >= CHUNKS_PER_WORKER * self.workers:
                yield self._first(pending)
        while pending:
            yield self._first(pending)

    def _submitted(self, job: Job) -> Future[Decoded]:
        assert self._pool is not None
        try:
            with _signals_blocked():  # the pool starts its processes here
                return self._pool.submit(decode_chunk, *job)
        except BrokenProcessPool as error:  # one has died since the last result
            failed: Future[Decoded] = Future()
            failed.set_exception(error)
            return failed

    def _first(self, pending: deque[tuple[Job, Future[Decoded]]]) -> Decoded:
        """Return the result of the first job, and remove it; the others are sent again if a process has died."""
        job, future = pending.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            self._restart()
            decoded = self._without_deadly(job)
            for place, (other, _) in enumerate(pending):
                pending[place] = (other, self._submitted(other))
            return decoded

    def _without_deadly(self, job: Job) -> Decoded:
        """Decode a chunk, by halves if a process dies; an image at which it dies alone is broken."""
        index, images, form = job
        try:
            return self._submitted(job).result()
        except BrokenProcessPool:
            self._restart()
        if len(index) > 1:
            half = len(index) // 2
            parts = [(index[part], images[part], form) for part in (slice(half), slice(half, None))]
            return joined([self._without_deadly(part) for part in parts])
        self._deadly += 1
        if self._deadly > MOST_DEADLY:
            raise UserError(
                f"prepare: decoding processes died at each of {self._deadly} images, possibly for lack of memory; use "
                "fewer with --workers"
            )
        return replace(decode_chunk(index[:0], [], form), broken={int(index[0]): DEADLY})


def joined(parts: Sequence[Decoded]) -> Decoded:
    """Return the results of the parts of a chunk as that of the chunk."""
    return Decoded(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.index for part in parts]),
        {entry: reason for part in parts for entry, reason in part.broken.items()},
        [info for part in parts for info in part.image_info],
    )


def _is_heic(entry: Entry) -> bool:
    return os.path.splitext(entry.name)[1].lower() in HEIC_SUFFIXES


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes without Ctrl-C and SIGHUP, which this process handles: not even their imports are interrupted."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Initialise a new process: ignore Ctrl-C, which the parent handles, and exit when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
