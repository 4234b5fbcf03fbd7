"""The images of a split, indexed as batches on a device."""

from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.unread_images import UnreadImages

RESIDENT_SHARE = 0.5
"""Maximum share of the device's free memory for images that are kept on it (own choice)."""
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
    into its memory; otherwise each batch is copied from the memory-mapped file. A method that reads stored features
    instead never needs them in memory, nor does a pass over them in their order on a CPU, see `part`.
    """

    def __init__(self, array: NDArray[np.uint8] | UnreadImages, device: torch.device) -> None:
        self.array = array
        self.device = device

    @cached_property
    def _resident(self) -> Tensor | None:
        """All images on the device, None if they do not fit."""
        return (
            torch.from_numpy(_in_memory(self.array)).to(self.device) if _fits(self.array.nbytes, self.device) else None
        )

    def __len__(self) -> int:
        return len(self.array)

    def subset(self, index: Tensor) -> "Images":
        """Return the images with these indices (int64 [L]), in this order."""
        return Images(self.array[index.cpu().numpy()], self.device)

    def part(self, start: int, stop: int) -> Tensor:
        """Return the images from `start` to before `stop`, or to the last one, for a pass over all of them.

        On a CPU they are read from the memory-mapped file, unless all are in memory already or lie there scattered: to
        read the file again in a later pass costs no more than a copy. On another device it would be one more transfer.
        """
        stop = min(stop, len(self))
        if self.device.type == "cpu" and (kept := self.__dict__.get("_resident")) is not None:
            few: Tensor = kept[start:stop]
            return few
        if self.device.type != "cpu" or not (isinstance(self.array, np.ndarray) or self.array.is_in_order):
            return self[torch.arange(start, stop, device=self.device)]
        if isinstance(self.array, np.ndarray):
            return torch.from_numpy(_in_memory(self.array[start:stop]))
        return torch.from_numpy(self.array[np.arange(start, stop)])

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the images with these indices, int64 [L] on any device."""
        if self._resident is not None:
            return self._resident[on_device(index, self.device)]
        return on_device(torch.from_numpy(self.array[index.cpu().numpy()]), self.device)

    def batch(self, index: Tensor, sent: Tensor) -> Tensor:
        """Return the images with these indices, int64 [L] on the CPU, without waiting for the device.

        sent: the same indices on the device.
        """
        return self[index if self._resident is None else sent]

    def none(self) -> Tensor:
        """Return a batch of no images, [0, C, H, W]."""
        return torch.empty(0, *self.array.shape[1:], dtype=torch.uint8, device=self.device)


def on_device(rows: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device; a copy from the CPU to CUDA goes through pinned memory, so that nothing waits."""
    if rows.device.type == "cpu" and device.type == "cuda":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


def _in_memory(array: NDArray[np.uint8] | UnreadImages) -> NDArray[np.uint8]:
    """Return images in memory, without a second copy of those that are there already."""
    if isinstance(array, np.ndarray):
        return np.array(array) if isinstance(array, np.memmap) or not array.flags.writeable else array
    return array[np.arange(len(array))]


def _fits(size: int, device: torch.device) -> bool:
    """Return whether `size` bytes may be kept on the device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        import os

        # macOS does not say how much of its memory is free.
        pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
        free = os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    return size <= RESIDENT_SHARE * free
