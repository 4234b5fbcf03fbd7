"""Held-out images for monitors: their metrics are written to the history and select nothing."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.store import Store


@dataclass(frozen=True)
class HeldOut:
    """Held-out images and whatever labels of them are known."""

    images: Images
    label: Tensor
    """int64 [M], -1 where unknown, on the images' device."""

    def accuracy(self, logits: Tensor) -> float:
        """Share of the images with a known label that logits [M, C] predict correctly, from 0 to 1."""
        known = self.label >= 0
        return float((logits.argmax(dim=1) == self.label)[known].float().mean())

    @property
    def has_labels(self) -> bool:
        """Whether the label of any image is known."""
        return bool((self.label >= 0).any())


def read_held_out(store: Store, device: torch.device) -> HeldOut:
    """The held-out images of a store, on the device."""
    label = np.array(store.labels("held_out"))
    return HeldOut(Images(store.images("held_out"), device), torch.from_numpy(label).to(device))
