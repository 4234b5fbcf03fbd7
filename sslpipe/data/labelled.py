"""The labelled training images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sslpipe.data.images import Images
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
    """Class names, or numbers of the groups whose images are labelled so; at least 2."""

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
