"""Images of coming batches, read from the disk and copied to the device while the device trains on the one before."""

import os
import weakref
from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.reading import Reading, Rows, readers


class _Ahead:
    """The images of one batch, on their way to the device."""

    def __init__(self, index: Tensor, buffer: Tensor, reading: Reading) -> None:
        self.index, self.reading = index, reading
        self._buffer: Tensor | None = buffer
        self._sent: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def send(self, device: torch.device, stream: torch.cuda.Stream | None) -> None:
        """Copy the images to the device, on a stream of their own with CUDA; do nothing if they are sent already."""
        if self._buffer is None:
            return
        if stream is None:
            self._sent = self._buffer.to(device)
        else:
            with torch.cuda.stream(stream):
                self._sent = self._buffer.to(device, non_blocking=True)
                self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._arrived.record(stream)
        self._buffer = None

    def take(self, device: torch.device, stream: torch.cuda.Stream | None) -> Tensor:
        """Return the images on the device, for use on the current stream."""
        self.reading.wait()
        self.send(device, stream)
        assert self._sent is not None
        if self._arrived is not None:
            current = torch.cuda.current_stream(device)
            current.wait_event(self._arrived)
            self._sent.record_stream(current)
        return self._sent


class _Memory:
    """Memory of batches that are no longer used, for later ones: new memory costs a page fault every 4 KiB."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor uint8 of this shape, whose memory comes back when it and all its views are deleted."""
        size = prod(shape)
        fitting = next((number for number, each in enumerate(self._free) if len(each) >= size), None)
        whole = np.empty(size, np.uint8) if fitting is None else self._free.pop(fitting)
        view = whole[:size]
        weakref.finalize(view, self._free.append, whole).atexit = False
        return torch.from_numpy(view).view(shape)


class Prefetcher:
    """Batches of images [N, C, H, W] that are read ahead, each into a buffer of its own, which is pinned for CUDA.

    CUDA is only called in the thread that asks for batches, so that it may capture graphs between them.
    """

    def __init__(self, rows: Rows, shape: Sequence[int], device: torch.device) -> None:
        """shape: C, H, W."""
        self._rows, self._shape, self._device = rows, tuple(shape), device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._readers, self._process = readers(), os.getpid()
        self._memory = _Memory()
        self._ahead: dict[int, _Ahead] = {}

    def at(self, step: int, index_of: Callable[[int], Tensor], coming: Sequence[int]) -> Tensor:
        """Return the images of a step, uint8 [L, C, H, W] on the device, and read on for the steps that come.

        index_of: step → indices of its images, int64 [L] on the CPU; if others
        were read ahead, these are read. Raises UserError if the images cannot be read.
        """
        if self._process != os.getpid():  # in a fork, which has no threads
            self._readers, self._process, self._ahead = readers(), os.getpid(), {}
        index, ahead = index_of(step), self._ahead
        batch = ahead.pop(step, None)
        if batch is not None and not torch.equal(batch.index, index):
            batch.reading.dropped, batch = True, None
        batch = batch or self._begin(index)
        self._ahead = {key: ahead.pop(key) if key in ahead else self._begin(index_of(key)) for key in coming}
        for other in ahead.values():
            other.reading.dropped = True
        for each in self._ahead.values():
            if each.reading.is_filled:
                each.send(self._device, self._stream)
        return batch.take(self._device, self._stream)

    def _begin(self, index: Tensor) -> _Ahead:
        """Begin to read images."""
        shape = (len(index), *self._shape)
        pinned = self._stream is not None
        # torch keeps pinned memory for the next buffer, too.
        buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=True) if pinned else self._memory.take(shape)
        return _Ahead(index, buffer, self._readers.start(self._rows.works(index.numpy(), buffer)))
