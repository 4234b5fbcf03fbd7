"""Held-out images that a training stage looks at: their figures stand in the history and decide nothing."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.store import UNKNOWN, Store
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network


@dataclass(frozen=True)
class Watch:
    """Held-out images, for figures in the history that decide nothing."""

    images: Images
    label: Tensor
    """int64 [M], -1 where unknown, on the images' device."""

    def accuracy(self, logits: Tensor) -> float:
        """Share of the held-out images with a known label that logits [M, C] name rightly; 0 to 1."""
        known = self.label >= 0
        return float((logits.argmax(dim=1) == self.label)[known].float().mean())

    @property
    def sees(self) -> bool:
        """Whether any held-out label is known."""
        return bool((self.label >= 0).any())

    @torch.no_grad()
    def accuracy_of(self, network: Network) -> float:
        """As `accuracy`, of a network's answers for the images as they are; leaves the network in eval mode."""
        return self.accuracy(infer(network.eval(), self.images))


def read_watch(store: Store, device: torch.device, *, labels: bool = True) -> Watch:
    """The held-out images and whatever labels of them are known; labels: False leaves the labels' file closed."""
    images = store.images("held_out")
    label = np.array(store.labels("held_out")) if labels else np.full(len(images), UNKNOWN)
    return Watch(Images(images, device), torch.from_numpy(label).to(device))
