"""Images read into given memory by several threads, without the memory map: each thread waits for the disk alone."""

import os
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread, current_thread
from time import monotonic
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.unread_images import UnreadImages
from sslpipe.io.errors import UserError

THREADS = 8
"""Threads that read (own choice, measured by benchmarks/reading.py)."""
PARTS = 4 * THREADS
"""Maximum number of parts of a batch that threads read on their own, more than threads since some parts take longer."""
MOST_BUFFERS = 1024
"""Maximum number of buffers of one read: IOV_MAX of Linux and macOS."""
STOPPING_SECONDS = 1.0
"""How long the end of the process waits for threads that read."""
Work = Callable[[], None]


class Rows(Protocol):
    """Images [N, C, H, W] that several threads can read at once."""

    def works(self, index: NDArray[np.int64], out: Tensor) -> list[Work]:
        """Return what fills `out`, uint8 [L, C, H, W] on the CPU, with these images, in parts that may run at once."""
        ...


@runtime_checkable
class ReadsInto(Protocol):
    """Images with a method that threads can call at once."""

    def read_into(self, index: NDArray[np.int64], out: Tensor) -> None:
        """Fill `out`, uint8 [L, C, H, W] on the CPU, with the images with these indices."""
        ...


def rows_of(images: NDArray[np.uint8] | UnreadImages) -> Rows:
    """Return how threads read images: from their file, by their own `read_into`, or, by one thread, by an index."""
    if isinstance(images, ReadsInto):
        return _PartRows(images)
    if isinstance(images, np.memmap) and images.flags.c_contiguous and hasattr(os, "preadv"):
        whole: Any = images
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        if whole.filename is not None:
            offset = whole.offset + images.ctypes.data - whole.ctypes.data
            return _FileRows(os.fspath(whole.filename), offset, images.shape)
    return _IndexedRows(images)


class _FileRows:
    """Images of a file, one after the other."""

    def __init__(self, path: str, offset: int, shape: tuple[int, ...]) -> None:
        """offset: that of the first image, in bytes."""
        self._path, self._offset, self._count = path, offset, shape[0]
        self._size = int(np.prod(shape[1:]))
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, error) from error
        if hasattr(os, "posix_fadvise"):
            # Threads that read one file in parts look to the system like one reader that jumps: what it reads on its
            # own ahead is lost. Measured by benchmarks/reading.py: 1.1 to 1.7 times as fast.
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)
        weakref.finalize(self, os.close, self._file).atexit = False

    def works(self, index: NDArray[np.int64], out: Tensor) -> list[Work]:
        if len(index) and not 0 <= index.min() <= index.max() < self._count:
            raise IndexError(f"index: {index.min()} to {index.max()} found, expected 0 to {self._count - 1}")
        order = np.argsort(index, kind="stable")
        into = out.numpy().reshape(len(index), self._size)
        parts = np.array_split(order, min(PARTS, len(order))) if len(order) else []
        return [lambda part=part: self._read(index[part], into, part) for part in parts]  # type: ignore[misc]

    def _read(self, index: NDArray[np.int64], into: NDArray[np.uint8], places: NDArray[np.int64]) -> None:
        """Read images into the rows `places` of `into`, those that lie one after the other in the file at once."""
        ends = [*(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
        for start, end in pairwise([0, *ends]):
            self._fill([memoryview(into[place]) for place in places[start:end].tolist()], int(index[start]))

    def _fill(self, buffers: list[memoryview], image: int) -> None:
        """Fill buffers with the bytes from the beginning of an image on."""
        at = self._offset + image * self._size
        while buffers:
            try:
                count = os.preadv(self._file, buffers[:MOST_BUFFERS], at)
            except OSError as error:
                raise _unreadable(self._path, error) from error
            if not count:
                raise UserError(
                    f"{self._path}: ends after {at} bytes, expected {self._offset + self._count * self._size}; "
                    "run 'sslpipe prepare' again"
                )
            at += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]


def _unreadable(path: str, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({error.strerror})")


class _PartRows:
    """Images that are read by their own `read_into`."""

    def __init__(self, images: ReadsInto) -> None:
        self._images = images

    def works(self, index: NDArray[np.int64], out: Tensor) -> list[Work]:
        cuts = np.linspace(0, len(index), min(PARTS, len(index)) + 1).astype(int).tolist()
        pairs = pairwise(cuts)
        return [lambda a=a, b=b: self._images.read_into(index[a:b], out[a:b]) for a, b in pairs]  # type: ignore[misc]


class _IndexedRows:
    """Images that are read by indexing them, by one thread."""

    def __init__(self, images: NDArray[np.uint8] | UnreadImages) -> None:
        self._images = images

    def works(self, index: NDArray[np.int64], out: Tensor) -> list[Work]:
        return [lambda: out.numpy().__setitem__(slice(None), self._images[index])]


class Reading:
    """A buffer that threads fill."""

    def __init__(self, works: Sequence[Work]) -> None:
        self.dropped = False
        """Whether nobody needs the rest."""
        self._works, self._left = works, len(works)
        self._lock, self._done = Lock(), Event()
        if not works:
            self._done.set()
        self._error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        """Whether the buffer is filled, or a thread has failed."""
        return self._done.is_set()

    @property
    def is_filled(self) -> bool:
        """Whether the buffer is filled."""
        return self._done.is_set() and self._error is None

    def wait(self) -> None:
        """Wait until the buffer is filled; raises what a thread has raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error

    def run(self, number: int) -> None:
        """Do a part of the work, in a thread."""
        try:
            if not self.dropped:
                self._works[number]()
        except BaseException as error:
            self._error = self._error or error
            self.dropped = True
        with self._lock:
            self._left -= 1
            if not self._left:
                self._works = ()
                self._done.set()


class Readers:
    """The threads that read; they end with the last user of this object."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Reading, int] | None] = SimpleQueue()
        threads = [
            Thread(target=_work, args=(self._tasks,), name="sslpipe-reader", daemon=True) for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        weakref.finalize(self, _stop, self._tasks, threads)

    def start(self, works: Sequence[Work]) -> Reading:
        """Let threads do the parts of a work."""
        reading = Reading(works)
        for number in range(len(works)):
            self._tasks.put((reading, number))
        return reading

    def read(self, rows: Rows, index: NDArray[np.int64], out: Tensor) -> None:
        """Fill `out`, uint8 [L, C, H, W] on the CPU, with the images with these indices, and wait for it."""
        self.start(rows.works(index, out)).wait()


_readers: "weakref.WeakValueDictionary[int, Readers]" = weakref.WeakValueDictionary()


def readers() -> Readers:
    """Return the threads of this process, which all its streams share; a fork has none of its parent's."""
    found = _readers.get(os.getpid())
    if found is None:
        found = _readers[os.getpid()] = Readers()
    return found


def _work(tasks: "SimpleQueue[tuple[Reading, int] | None]") -> None:
    while task := tasks.get():
        reading, number = task
        reading.run(number)
        del task, reading


def _stop(tasks: "SimpleQueue[tuple[Reading, int] | None]", threads: list[Thread]) -> None:
    """End threads, at the end of the process or before; a thread that is decoding then would crash it."""
    with suppress(Empty):
        while True:
            tasks.get_nowait()
    for _ in threads:
        tasks.put(None)
    until = monotonic() + STOPPING_SECONDS
    for thread in threads:
        if thread is not current_thread():
            thread.join(max(until - monotonic(), 0))
