"""Linear probes of several feature spaces and strengths, what they vote for, and their mean as a head."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.methods.semisup._feature_probe import Probe, fit_probe
from sslpipe.metrics.pca import Pca, fit_pca
from sslpipe.nets.unit_heads import ConsensusHead

Vote = Literal["mean_probability", "mean_label"]
ROWS = 4096
"""Images that are voted on at a time (own choice)."""


@dataclass(frozen=True)
class Space:
    """Some dimensions of the features, and their map to principal components (F.normalize(x) - mean) basis."""

    dimensions: slice
    """Those of one network, or of all joined ones."""
    networks: int
    """Number of networks whose features these are, each of norm 1 if there are several."""
    pca: Pca

    def components(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return the components [M, d] of features [M, D]."""
        return self.pca.transform(features[:, self.dimensions])


def spaces_of(features: NDArray[Any], parts: Sequence[int], components: int) -> list[Space]:
    """Return the spaces of features [N, D], which are read once for each.

    parts: dimensions of each joined network; they sum to D. Each network is a space, and so are several together.
    components: maximum number of principal components.
    """
    ends = list(accumulate(parts))
    each = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    whole = [(slice(0, ends[-1]), len(parts))] if len(parts) > 1 else []
    return [
        Space(dimensions, networks, fit_pca(features[:, dimensions], components))
        for dimensions, networks in [*((own, 1) for own in each), *whole]
    ]


@dataclass(frozen=True)
class Voters:
    """Several probes in each of some spaces."""

    spaces: Sequence[Space]
    probes: Sequence[Sequence[Probe]]
    """The probes of each space."""

    def __len__(self) -> int:
        return sum(map(len, self.probes))

    def probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities [H, M, C] of the H probes for features [M, D]."""
        found = []
        for space, probes in zip(self.spaces, self.probes, strict=True):
            components = space.components(features)
            found += [probe.probabilities(components) for probe in probes]
        return np.stack(found)

    def vote(self, features: NDArray[Any], how: Vote) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the class [N] that the probes vote for, and whether they all agree [N].

        features: [N, D], which are read in chunks and may lie in a file.
        """
        label, unanimous = np.empty(len(features), dtype=np.int64), np.empty(len(features), dtype=np.bool_)
        for start in range(0, len(features), ROWS):
            probability = self.probabilities(np.asarray(features[start : start + ROWS]))
            own = probability.argmax(axis=2)
            rows = slice(start, start + own.shape[1])
            label[rows] = votes(probability, how).argmax(axis=1)
            unanimous[rows] = (own == own[0]).all(axis=0)
        return label, unanimous

    def head(self, dimension: int) -> ConsensusHead:
        """Return the mean of the probes' probabilities as a head on the CPU for features [B, dimension]."""
        weights, biases = [], []
        for space, probes in zip(self.spaces, self.probes, strict=True):
            basis, mean = torch.from_numpy(space.pca.basis), torch.from_numpy(space.pca.mean)
            for probe in probes:
                own = probe.weight.float() @ basis.T
                weight = torch.zeros(len(own), dimension)
                # The features of several networks have the norm √networks.
                weight[:, space.dimensions] = own / space.networks**0.5
                weights.append(weight)
                biases.append(probe.bias.float() - own @ mean)
        single = len(self.spaces) == 1
        return ConsensusHead.of(torch.stack(weights), torch.stack(biases), unit_features=single)


def votes(probability: NDArray[np.float32], how: Vote) -> NDArray[np.float32]:
    """Return the votes [M, C] of H probes with probabilities [H, M, C] for each class; each image's sum to 1.

    mean_probability: the mean. mean_label: the share of the probes to which the class is the most probable one; half of
    another probe's vote is divided by the mean probability, so that this decides between equal shares.
    """
    mean: NDArray[np.float32] = probability.mean(axis=0)
    if how == "mean_probability":
        return mean
    heads, classes = len(probability), probability.shape[2]
    count = (probability.argmax(axis=2)[:, :, None] == np.arange(classes)).sum(axis=0)
    result: NDArray[np.float32] = ((count + mean / 2) / (heads + 0.5)).astype(np.float32)
    return result


def fit_voters(
    spaces: Sequence[Space], features: NDArray[Any], label: Tensor, strengths: Sequence[float], iterations: int
) -> Voters:
    """Return the probes of each space and strength for images with features [L, D] and classes [L]."""
    probes = []
    for space in spaces:
        components = space.components(features)
        probes.append([fit_probe(components, label, strength, iterations) for strength in strengths])
    return Voters(spaces, probes)
