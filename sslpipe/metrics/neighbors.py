"""Metrics of nearest neighbours: purity, and the accuracy of a vote of neighbours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN
from sslpipe.metrics.labels import known_only

MIN_PAIRS = 30
"""Minimum number of pairs of images with known labels for a purity (own choice: its standard error is up to 0.09)."""

ROWS = 4096
"""Images whose votes are counted at a time (own choice: 33 MB at 1,000 classes)."""


def purity(neighbors: NDArray[Any], label: NDArray[Any], ks: Sequence[int]) -> dict[int, float]:
    """Return k → the share of the k nearest neighbours that have the image's label, for each k in `ks`.

    This is the metric of figure 2 in SCAN (Van Gansbeke et al. 2020, arXiv:2005.12320). neighbors: [N, K] indices of
    images, nearest first. label: [N]. The share is over all pairs of an image and one of its first k neighbours with
    both labels known, and NaN without such a pair.
    Raises ValueError for other shapes, indices outside [0, N), a k outside [1, K], or if no label is known.
    """
    neighbors = np.asarray(neighbors)
    if neighbors.ndim != 2 or (neighbors.size and not 0 <= neighbors.min() <= neighbors.max() < len(label)):
        raise ValueError(f"neighbors: shape {neighbors.shape} found, expected [N, K] of indices below {len(label)}")
    own, neighbors = known_only(label, neighbors)
    theirs = np.asarray(label)[neighbors]
    result = {}
    for k in ks:
        if not 1 <= k <= theirs.shape[1]:
            raise ValueError(f"k: {k} found, expected between 1 and the {theirs.shape[1]} neighbours")
        pairs = int((theirs[:, :k] != UNKNOWN).sum())
        same = int((theirs[:, :k] == own[:, None]).sum())
        result[k] = same / pairs if pairs else float("nan")
    return result


def knn_accuracy(
    similarity: NDArray[Any], neighbor_label: NDArray[Any], label: NDArray[Any], *, temperature: float = 0.07
) -> float:
    """Return the accuracy of a weighted vote of the nearest neighbours, from 0 to 1.

    This is the kNN classifier of instance discrimination (Wu et al. 2018, arXiv:1805.01978, section 3.4): the weight of
    a vote is exp(similarity / τ). similarity: [M, K] cosine similarities of the neighbours. neighbor_label: [M, K]
    their classes; those with UNKNOWN (-1) have no vote. label: [M] classes of the images. The accuracy is over images
    with a known label, NaN without any; an image without a vote counts as wrong.
    """
    label, neighbor_label = np.asarray(label), np.asarray(neighbor_label)
    known = label != UNKNOWN
    similarity, classes = np.asarray(similarity), max(int(neighbor_label.max(initial=0)), int(label.max(initial=0))) + 1
    right = np.zeros(len(label), dtype=bool)
    for start in range(0, len(label), ROWS):
        few, theirs = slice(start, start + ROWS), neighbor_label[start : start + ROWS]
        votes = np.zeros((len(theirs), classes))
        weight = np.exp((similarity[few].astype(np.float64) - 1) / temperature) * (theirs != UNKNOWN)
        np.add.at(votes, (np.arange(len(theirs))[:, None], theirs), weight)
        right[few] = (votes.argmax(axis=1) == label[few]) & (votes.max(axis=1) > 0)
    return float(right[known].mean()) if known.any() else float("nan")


def vote_size(count: int, classes: int) -> int:
    """Return the number of neighbours that vote: 200 as in Wu et al., but at most half the mean size of a class.

    count: number of images that may be neighbours.
    """
    return max(1, min(200, count // (2 * max(classes, 1))))


def purities(neighbors: NDArray[Any], label: NDArray[Any]) -> dict[int, float]:
    """Return `purity` for k = K and those of k = 1, 2, 5, 10, 20, 50 that are at most K.

    Each k with fewer than MIN_PAIRS pairs of known labels is left out; {} without labels.
    """
    label = np.asarray(label)
    if (label == UNKNOWN).all():
        return {}
    mined = neighbors.shape[1]
    known = (label != UNKNOWN)[:, None] & (label[neighbors] != UNKNOWN)
    ks = [k for k in (1, 2, 5, 10, 20, 50, mined) if k <= mined and known[:, :k].sum() >= MIN_PAIRS]
    return purity(neighbors, label, sorted(set(ks)))
