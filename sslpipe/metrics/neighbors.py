"""How often an image's neighbours are of its own class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN
from sslpipe.metrics.labels import known_only

LEAST_PAIRS = 30
"""Of images with known labels, below which a share of them says nothing (own choice: ± 0.09 at best)."""


def purity(neighbors: NDArray[Any], label: NDArray[Any], ks: Sequence[int]) -> dict[int, float]:
    """For each k in `ks`: the share of images' first k neighbours that have the image's own label (SCAN, fig. 2).

    neighbors: [N, K] indices of images, nearest first, K ≥ k. label: [N]. The share is over all pairs of an image and
    one of its first k neighbours in which both labels are known; NaN where there is no such pair.
    Raises ValueError for other shapes, indices outside [0, N), a k outside [1, K], or no known label.
    """
    neighbors = np.asarray(neighbors)
    if neighbors.ndim != 2 or (neighbors.size and not 0 <= neighbors.min() <= neighbors.max() < len(label)):
        raise ValueError(f"neighbors: shape {neighbors.shape} found, expected [N, K] of indices below {len(label)}")
    own, neighbors = known_only(label, neighbors)
    theirs = np.asarray(label)[neighbors]
    result = {}
    for k in ks:
        if not 1 <= k <= theirs.shape[1]:
            raise ValueError(f"k: {k} found, expected between 1 and {theirs.shape[1]}, the neighbours there are")
        pairs = int((theirs[:, :k] != UNKNOWN).sum())
        same = int((theirs[:, :k] == own[:, None]).sum())
        result[k] = same / pairs if pairs else float("nan")
    return result


def knn_accuracy(
    similarity: NDArray[Any], neighbor_label: NDArray[Any], label: NDArray[Any], *, temperature: float = 0.07
) -> float:
    """Accuracy of the weighted vote of the nearest images (Wu et al. 2018, section 3.4), 0 to 1.

    similarity: [M, K] cosines of each image's nearest neighbours; neighbor_label: [M, K] their classes, UNKNOWN (-1)
    for those that have no vote; label: [M] the images' own. A neighbour votes with exp(similarity / τ). The share is
    over images with a known label; NaN where there is none. Without a vote an image counts as wrong.
    """
    label, neighbor_label = np.asarray(label), np.asarray(neighbor_label)
    known = label != UNKNOWN
    votes = np.zeros((len(label), max(int(neighbor_label.max(initial=0)), int(label.max(initial=0))) + 1))
    weight = np.exp((np.asarray(similarity, np.float64) - 1) / temperature) * (neighbor_label != UNKNOWN)
    np.add.at(votes, (np.arange(len(label))[:, None], neighbor_label), weight)
    right = (votes.argmax(axis=1) == label) & (votes.max(axis=1) > 0)
    return float(right[known].mean()) if known.any() else float("nan")


def vote_size(count: int, classes: int) -> int:
    """How many neighbours vote: 200, as Wu et al. do, but at most half of what a class has on average of `count`."""
    return max(1, min(200, count // (2 * max(classes, 1)), count))


def purities(neighbors: NDArray[Any], label: NDArray[Any]) -> dict[int, float]:
    """`purity` for k = 1, 2, 5, 10, 20, 50 and all K neighbours, as far as there are so many.

    A k with fewer than LEAST_PAIRS pairs of known labels is left out; {} without labels.
    """
    label = np.asarray(label)
    if (label == UNKNOWN).all():
        return {}
    mined = neighbors.shape[1]
    known = (label != UNKNOWN)[:, None] & (label[neighbors] != UNKNOWN)
    ks = [k for k in (1, 2, 5, 10, 20, 50, mined) if k <= mined and known[:, :k].sum() >= LEAST_PAIRS]
    return purity(neighbors, label, sorted(set(ks)))
