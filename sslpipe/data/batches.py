"""Infinite streams of batches, unlabelled, labelled or both; a batch depends only on the seed and the step.

So a run can resume at any step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sslpipe.data import world
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.seeds import RandomStream, mix
from sslpipe.io.errors import UserError


@dataclass(frozen=True)
class Batch:
    """A batch of images without labels; methods with few labels get a `Pair` with a labelled batch."""

    image: Tensor
    """uint8 [B / N, C, H, W], on the device: this process's images, of N processes; all with one."""
    index: Tensor
    """int64 [B], the indices of all images in their split, on the device."""

    def __len__(self) -> int:
        """B, the number of images of all processes."""
        return len(self.index)


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
        return Batch(image=self.images[world.own(index)], index=index)


@dataclass(frozen=True)
class LabelledBatch:
    """A batch of labelled images, which has an image twice if one pass over them ends in it and the next begins."""

    image: Tensor
    """uint8 [B / N, C, H, W], on the device: this process's images, of N processes; all with one."""
    index: Tensor
    """int64 [B], the indices of all images among the L labelled images, on the device."""
    label: Tensor
    """int64 [B], their classes, on the device."""

    def __len__(self) -> int:
        """B, the number of images of all processes."""
        return len(self.index)


class LabelledBatches:
    """Infinite stream of labelled batches, cut from consecutive random orders of the L images without dropping any."""

    def __init__(self, labelled: LabelledImages, size: int, *, seed: int) -> None:
        """size: number of images per batch, at least 1; if it is more than L, a batch has images several times."""
        self.labelled = labelled
        self.size = size
        self.seed = seed
        self._orders: dict[int, Tensor] = {}
        """Pass → its order [L], for the passes in the last batch."""

    def at(self, step: int) -> LabelledBatch:
        """Return the batch of a step (0-based)."""
        start = step * self.size
        first, skipped = divmod(start, len(self.labelled))
        last = (start + self.size - 1) // len(self.labelled)
        self._orders = {n: self._orders[n] if n in self._orders else self._draw(n) for n in range(first, last + 1)}
        place = torch.cat(list(self._orders.values()))[skipped : skipped + self.size]
        image = self.labelled.images[self.labelled.index[world.own(place)]]
        return LabelledBatch(image=image, index=place, label=self.labelled.label[place])

    def _draw(self, number: int) -> Tensor:
        """Return the random order of a pass."""
        generator = torch.Generator().manual_seed(mix(self.seed, RandomStream.LABELLED_ORDER, number))
        return torch.randperm(len(self.labelled), generator=generator).to(self.labelled.images.device)


@dataclass(frozen=True)
class Pair:
    """A labelled and an unlabelled batch, the input of a semi-supervised method."""

    labelled: LabelledBatch
    unlabelled: Batch


@dataclass(frozen=True)
class PairedBatches:
    """Stream of pairs of labelled and unlabelled batches; an epoch is a pass over the unlabelled images."""

    unlabelled: Batches
    labelled: LabelledBatches

    @property
    def device(self) -> torch.device:
        """Device of the batches."""
        return self.unlabelled.device

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in a pass over the unlabelled images."""
        return self.unlabelled.steps_per_epoch

    def at(self, step: int) -> Pair:
        """Return the pair of a step (0-based)."""
        return Pair(labelled=self.labelled.at(step), unlabelled=self.unlabelled.at(step))


Stream = Batches | PairedBatches
"""A stream of batches, as the training loop uses it; which one depends on the method."""
