"""Held-out images with labels, for monitors in the history of methods with few labels; they select no model."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.store import Store


@dataclass(frozen=True)
class HeldOut:
    """The held-out images and their labels."""

    images: Images
    label: Tensor
    """int64 [M], -1 if it is not known, on the device of the images."""

    def accuracy(self, logits: Tensor) -> float:
        """Return the accuracy of logits [M, C] on the images with a known label, from 0 to 1."""
        return self.share_of(logits.argmax(dim=1))

    def share_of(self, predicted: Tensor) -> float:
        """Return the accuracy of predicted classes [M], whole numbers of any type, as `accuracy` does."""
        known = self.label >= 0
        return float((predicted == self.label)[known].float().mean())

    @property
    def has_labels(self) -> bool:
        """Whether at least one label is known."""
        return bool((self.label >= 0).any())


def read_held_out(store: Store, device: torch.device) -> HeldOut:
    """Return the held-out images of a store, on the device."""
    label = np.array(store.labels("held_out"))
    return HeldOut(Images(store.images("held_out"), device), torch.from_numpy(label).to(device))
