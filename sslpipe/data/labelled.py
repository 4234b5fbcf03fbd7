"""The few training images whose label a method may use, and endless batches of them beside the unlabelled ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sslpipe.data.batches import Batch, Batches
from sslpipe.data.images import Images
from sslpipe.data.seeds import mix
from sslpipe.data.store import Store
from sslpipe.io.errors import UserError


@dataclass(frozen=True)
class LabelledImages:
    """The L labelled images, at least one of each class."""

    images: Images
    """All training images."""
    index: Tensor
    """int64 [L], which of them are labelled, ascending; on the images' device."""
    label: Tensor
    """int64 [L], their classes; on the images' device."""
    names: tuple[str, ...]
    """Of the classes, at least 2."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def __len__(self) -> int:
        return len(self.index)


def read_labelled(store: Store, images: Images) -> LabelledImages:
    """The labelled images of a store. images: its training images.

    Raises UserError where no image is labelled, all labels are of one class, or a class has none.
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
    """Labelled images; the same one may be there twice where one pass over them ends and the next begins."""

    image: Tensor
    """uint8 [B, C, H, W], on the device."""
    index: Tensor
    """int64 [B], the images' places among the L labelled ones, on the device."""
    label: Tensor
    """int64 [B], their classes, on the device."""


class LabelledBatches:
    """One random order of the L images after another, endlessly, cut into batches: no rest is ever left out."""

    def __init__(self, labelled: LabelledImages, size: int, *, seed: int) -> None:
        """size: images a batch, at least 1; it may be above L, so that each image comes several times."""
        self.labelled = labelled
        self.size = size
        self.seed = seed
        self._orders: dict[int, Tensor] = {}
        """Pass → its order [L], of the passes that the last batch was cut from."""

    def at(self, step: int) -> LabelledBatch:
        """The batch of a step (0-based)."""
        start = step * self.size
        first, skipped = divmod(start, len(self.labelled))
        last = (start + self.size - 1) // len(self.labelled)
        self._orders = {n: self._orders[n] if n in self._orders else self._draw(n) for n in range(first, last + 1)}
        place = torch.cat(list(self._orders.values()))[skipped : skipped + self.size]
        image = self.labelled.images[self.labelled.index[place]]
        return LabelledBatch(image=image, index=place, label=self.labelled.label[place])

    def _draw(self, number: int) -> Tensor:
        """The order of a pass."""
        generator = torch.Generator().manual_seed(mix(self.seed, 4, number))
        return torch.randperm(len(self.labelled), generator=generator).to(self.labelled.images.device)


@dataclass(frozen=True)
class Pair:
    """What a semi-supervised method gets."""

    labelled: LabelledBatch
    unlabelled: Batch


@dataclass(frozen=True)
class PairedBatches:
    """Labelled and unlabelled batches side by side; an epoch is one pass over the unlabelled images."""

    unlabelled: Batches
    labelled: LabelledBatches

    @property
    def device(self) -> torch.device:
        """Where the batches lie."""
        return self.unlabelled.device

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass over the unlabelled images."""
        return self.unlabelled.steps_per_epoch

    def at(self, step: int) -> Pair:
        """The pair of a step (0-based)."""
        return Pair(labelled=self.labelled.at(step), unlabelled=self.unlabelled.at(step))
