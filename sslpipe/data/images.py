"""The images of a split, indexed as batches on a device."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeGuard, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data import world
from sslpipe.data.memory import SHARES, fits, free_memory
from sslpipe.data.prefetching import Prefetcher
from sslpipe.data.reading import readers, rows_of
from sslpipe.data.unread_images import UnreadImages
from sslpipe.io.console import info

CHUNK = 64 * 2**20
"""Bytes of images in host memory on their way to the device (own choice)."""
Pixels = TypeVar("Pixels", Tensor, NDArray[np.uint8])


def central_square(images: Pixels, side: int) -> Pixels:
    """Return the central side × side pixels of images [..., H, W], as torchvision's CenterCrop does.

    An image that is not larger is returned as it is.
    """
    top, left = (max(round((length - side) / 2), 0) for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


class Images:
    """Images, uint8 [N, C, H, W], indexed by a tensor of indices on any device.

    A batch is uint8 [B, C, H, W] on `device`. From the first batch on the images are kept on the device if they fit
    into its memory (`sslpipe.data.memory`); otherwise streams of batches read them ahead from their file. A method that
    reads stored features instead never needs them in memory, nor does a pass over them in their order on a CPU, see
    `part`.
    """

    def __init__(self, array: NDArray[np.uint8] | UnreadImages, device: torch.device) -> None:
        self.array = array
        self.device = device

    @cached_property
    def resident(self) -> Tensor | None:
        """All images on the device, None if they do not fit, which a line then says."""
        if self.device.type == "cpu" and _in_memory(self.array):
            return torch.from_numpy(self.array if self.array.flags.writeable else np.array(self.array))
        free = free_memory(self.device)
        if fits(self.array.nbytes, self.device, free):
            return self._load()
        if not world.rank():
            info(
                f"images: {self.array.nbytes / 1e9:.3g} GB are more than {SHARES[self.device.type]:.0%} of the "
                f"{free / 1e9:.3g} GB of memory that are free on {self.device}, so batches are read from the disk; if "
                "training waits for it, lower prepare.size, or set prepare.store: jpeg"
            )
        return None

    @property
    def is_loaded(self) -> bool:
        """Whether all images are in the device's memory already."""
        return self.__dict__.get("resident") is not None or (self.device.type == "cpu" and _in_memory(self.array))

    def __len__(self) -> int:
        return len(self.array)

    def subset(self, index: Tensor) -> "Images":
        """Return the images with these indices (int64 [L]), in this order."""
        few = torch.empty(len(index), *self.array.shape[1:], dtype=torch.uint8)
        readers().read(rows_of(self.array), index.cpu().numpy(), few)
        return Images(few.numpy(), self.device)

    def part(self, start: int, stop: int) -> Tensor:
        """Return the images from `start` to before `stop`, or to the last one, for a pass over all of them.

        On a CPU they are read from their file, unless all are in memory already or lie there scattered: to read the
        file again in a later pass costs no more than a copy. On another device it would be one more transfer. A pass
        over images that are not kept on the device is read ahead.
        """
        stop, total = min(stop, len(self)), len(self)
        from_file = self.device.type == "cpu" and (isinstance(self.array, np.ndarray) or self.array.is_in_order)
        if (self.is_loaded or not from_file) and self.resident is not None:
            return self.resident[start:stop]
        size = stop - start
        coming = [first for first in (stop, stop + size) if first < total]
        found = self._pass.at(start, lambda first: torch.arange(first, min(first + size, total)), coming)
        if not coming:
            del self._pass  # with its memory and threads
        return found

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the images with these indices, int64 [L] on any device."""
        if self.resident is not None:
            return self.resident[on_device(index, self.device)]
        return on_device(torch.from_numpy(self.array[index.cpu().numpy()]), self.device)

    def none(self) -> Tensor:
        """Return a batch of no images, [0, C, H, W]."""
        return torch.empty(0, *self.array.shape[1:], dtype=torch.uint8, device=self.device)

    def prefetcher(self) -> Prefetcher:
        """Return a new reader of batches ahead, for images that are not kept on the device."""
        return Prefetcher(rows_of(self.array), self.array.shape[1:], self.device)

    @cached_property
    def _pass(self) -> Prefetcher:
        """The reader of passes over the images."""
        return self.prefetcher()

    def _load(self) -> Tensor:
        """Return all images on the device; those of a file are read in their order, CHUNK bytes at a time."""
        shape, rows, threads = self.array.shape, rows_of(self.array), readers()
        found = torch.empty(shape, dtype=torch.uint8, device=self.device)
        count = min(max(CHUNK // max(self.array.nbytes // max(len(self), 1), 1), 1), len(self))
        on_cpu, pinned = self.device.type == "cpu", self.device.type == "cuda"
        buffer = found[:0] if on_cpu else torch.empty(count, *shape[1:], dtype=torch.uint8, pin_memory=pinned)
        for start in range(0, len(self), count or 1):
            index = np.arange(start, min(start + count, len(self)))
            part = found[start : start + count] if on_cpu else buffer[: len(index)]
            threads.read(rows, index, part)
            if not on_cpu:
                found[start : start + count].copy_(part)
        return found


class StepImages:
    """The images of a stream of batches: from the device's memory if they are kept there, else read ahead."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._prefetcher: Prefetcher | None = None

    def at(self, step: int, index_of: Callable[[int], Tensor], sent: Tensor, coming: Sequence[int]) -> Tensor:
        """Return the images of a step, uint8 [L, C, H, W], without waiting for the device.

        index_of: step → indices of its images, int64 [L] on the CPU. sent: those of this step, on the device. coming:
        the next steps that need images.
        """
        if self._images.resident is not None:
            return self._images.resident[sent]
        if self._prefetcher is None:
            self._prefetcher = self._images.prefetcher()
        return self._prefetcher.at(step, index_of, coming)


def on_device(rows: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device; a copy from the CPU to CUDA goes through pinned memory, so that nothing waits."""
    if rows.device.type == "cpu" and device.type == "cuda":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


def _in_memory(array: NDArray[np.uint8] | UnreadImages) -> TypeGuard[NDArray[np.uint8]]:
    """Return whether images are in memory already."""
    return isinstance(array, np.ndarray) and not isinstance(array, np.memmap)
