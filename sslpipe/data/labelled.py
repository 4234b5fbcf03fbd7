"""The labelled training images, and infinite streams of labelled and unlabelled batches."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sslpipe.data.batches import Batch, Batches
from sslpipe.data.images import Images
from sslpipe.data.seeds import RandomStream, mix
from sslpipe.data.store import Store
from sslpipe.io.errors import UserError


@dataclass(frozen=True)
class LabelledImages:
    """The L labelled training images, at least one of each class."""

    images: Images
    """All training images."""
    index: Tensor
    """int64 [L], the indices of the labelled images, ascending; on the device of the images."""
    label: Tensor
    """int64 [L], their classes; on the device of the images."""
    names: tuple[str, ...]
    """Class names, at least 2."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def __len__(self) -> int:
        return len(self.index)


def read_labelled(store: Store, images: Images) -> LabelledImages:
    """Return the labelled images of a store. images: its training images.

    Raises UserError if no image is labelled, if there is only one class, or if a class has no labelled image.
    """
    index, label = store.labelled()
    where, again = store.root / "labelled", "and run 'sslpipe prepare' again"
    names = store.classes
    if not len(index):
        raise UserError(f"{where}: no image is labelled; label some of each class or raise prepare.labelled, {again}")
    if len(names) == 1:
        raise UserError(f"{where}: all labels are of one class, {names[0]!r}; label images of another class, {again}")
    missing = sorted(set(range(len(names))) - set(label.tolist()))
    if missing:
        others = f", and {len(missing) - 1} more classes have none" if len(missing) > 1 else ""
        raise UserError(
            f"{where}: class {names[missing[0]]!r} has no labelled image{others}; label at least one of each class "
            f"or raise prepare.labelled, {again}"
        )
    device = images.device
    return LabelledImages(images, torch.from_numpy(index).to(device), torch.from_numpy(label).to(device), names)


@dataclass(frozen=True)
class LabelledBatch:
    """A batch of labelled images, which has an image twice if one pass over them ends in it and the next begins."""

    image: Tensor
    """uint8 [B, C, H, W], on the device."""
    index: Tensor
    """int64 [B], their indices among the L labelled images, on the device."""
    label: Tensor
    """int64 [B], their classes, on the device."""


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
        image = self.labelled.images[self.labelled.index[place]]
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
