"""How often an image's neighbours are of its own class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN
from sslpipe.metrics.labels import known_only


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


def purities(neighbors: NDArray[Any], label: NDArray[Any]) -> dict[int, float]:
    """`purity` for k = 1, 2, 5, 10, 20, 50 and all K neighbours, as far as there are so many; {} without labels."""
    if (np.asarray(label) == UNKNOWN).all():
        return {}
    mined = neighbors.shape[1]
    return purity(neighbors, label, sorted({k for k in (1, 2, 5, 10, 20, 50, mined) if k <= mined}))
