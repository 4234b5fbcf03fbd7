"""Infinite streams of batches; a batch depends only on the seed and the step, so a run can resume at any step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.seeds import RandomStream, mix
from sslpipe.io.errors import UserError


@dataclass(frozen=True)
class Batch:
    """A batch of images without labels; methods with few labels get a `Pair` with a labelled batch."""

    image: Tensor
    """uint8 [B, C, H, W], on the device."""
    index: Tensor
    """int64 [B], the indices of the images in their split, on the device."""


class Batches:
    """Random batches of a fixed size, without replacement within an epoch; the last, smaller batch is dropped."""

    def __init__(self, images: Images, size: int, *, seed: int, where: str = "batch") -> None:
        """size: number of images per batch. where: the params key of `size`, for the error if it is too large."""
        if size > len(images):
            raise UserError(f"{where}: {size} is more than the {len(images)} training images")
        self.images = images
        self.size = size
        self.seed = seed
        self.steps_per_epoch = len(images) // size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def device(self) -> torch.device:
        """Device of the batches."""
        return self.images.device

    def at(self, step: int) -> Batch:
        """Return the batch of a step (0-based)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, RandomStream.EPOCH_ORDER, epoch))
            self._order = torch.randperm(len(self.images), generator=generator).to(self.images.device)
            self._epoch = epoch
        index = self._order[place * self.size : (place + 1) * self.size]
        return Batch(image=self.images[index], index=index)
