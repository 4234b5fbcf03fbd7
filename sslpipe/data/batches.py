"""Endless batches, each a function of the seed and the step alone, so that a run can go on from any step."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.seeds import mix
from sslpipe.io.errors import UserError


@dataclass(frozen=True)
class Batch:
    """What every method gets: images and which ones they are. No label: a method that may use some is given them."""

    image: Tensor
    """uint8 [B, C, H, W], on the device."""
    index: Tensor
    """int64 [B], the images' places in their split, on the device."""


class Stream(Protocol):
    """What the training loop draws from; each kind of batch is known to the methods that use it."""

    @property
    def device(self) -> torch.device:
        """Where the batches lie."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass over the images."""

    def at(self, step: int) -> Any:
        """The batch of a step (0-based), a function of the seed and the step alone."""


class Batches:
    """Random batches of fixed size without replacement within an epoch; the epoch's last, smaller rest is left out."""

    def __init__(self, images: Images, size: int, *, seed: int, where: str = "batch") -> None:
        """size: images a batch. where: the params key that gave it, for the error when there are fewer images."""
        if size > len(images):
            raise UserError(f"{where}: {size} is more than the {len(images)} images to train on")
        self.images = images
        self.size = size
        self.seed = seed
        self.steps_per_epoch = len(images) // size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def device(self) -> torch.device:
        """Where the batches lie."""
        return self.images.device

    def at(self, step: int) -> Batch:
        """The batch of a step (0-based)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, 1, epoch))
            self._order = torch.randperm(len(self.images), generator=generator).to(self.images.device)
            self._epoch = epoch
        index = self._order[place * self.size : (place + 1) * self.size]
        return Batch(image=self.images[index], index=index)
