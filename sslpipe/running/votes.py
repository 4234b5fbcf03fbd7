"""The labelled images whose predictions rank the label permutations of classifiers."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.data.images import Images
from sslpipe.data.seeds import RandomStream, mix
from sslpipe.data.store import Store
from sslpipe.data.unread_images import ChosenImages
from sslpipe.io.console import info
from sslpipe.nets.inference import rotated_votes
from sslpipe.nets.network import Network


@dataclass(frozen=True)
class Voters:
    """Labelled images, some of each class, that are read once for all classifiers."""

    images: Images
    label: NDArray[np.int64]
    """[L], their classes."""
    classes: int

    def votes(self, network: Network) -> NDArray[np.float64]:
        """Return the result of `rotated_votes` for a network on the device of the images, in eval mode."""
        return rotated_votes(network, self.images, self.label, self.classes)


def find_voters(store: Store, device: torch.device, *, per_class: int, seed: int) -> Voters:
    """Return the labelled images of a store, at most `per_class` of each class, drawn at random by `seed`.

    A line says how many are left out.
    """
    index, label = store.labelled()
    generator = torch.Generator().manual_seed(mix(seed, RandomStream.VOTES_SAMPLE))
    chosen = some_of_each(label, per_class, generator)
    if len(chosen) < len(index):
        info(
            f"evaluate: label permutations are ranked by {len(chosen)} of {len(index)} labelled images, at most "
            f"{per_class} of each class; evaluate.votes_per_class sets their number"
        )
    images = ChosenImages(store.images("train"), index[chosen])
    return Voters(Images(images, device), label[chosen], len(store.classes))


def some_of_each(label: NDArray[np.int64], most: int, generator: torch.Generator) -> NDArray[np.int64]:
    """Return the places of at most `most` of the labels [L] of each class, drawn at random, ascending."""
    shuffled = torch.randperm(len(label), generator=generator).numpy()
    order = shuffled[np.argsort(label[shuffled], kind="stable")]
    starts = np.searchsorted(label[order], label[order])
    return np.sort(order[np.arange(len(order)) - starts < most])
