"""Neighbour modularity: how far an image's neighbours are in its group, above chance. It needs no labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def neighbor_modularity(groups: NDArray[Any], neighbors: NDArray[Any]) -> float:
    """Return the share of pairs of an image and a neighbour in the same group, minus the sum of squared group shares.

    groups: [N] group of each image, from 0. neighbors: [N, k] indices of images, of any graph: one that had no part in
    making the groups does not flatter them. The value is 0 for a single group, at most 1 - 1 / groups for groups of
    equal size, and does not depend on the names of groups; only equal numbers of groups are comparable.
    Raises ValueError for other shapes and indices outside [0, N).
    """
    groups, neighbors = np.asarray(groups), np.asarray(neighbors)
    count = len(groups)
    if groups.ndim != 1 or not count or groups.min() < 0:
        raise ValueError(f"groups: shape {groups.shape} found, expected [N] of groups from 0")
    if neighbors.ndim != 2 or len(neighbors) != count or not neighbors.size:
        raise ValueError(f"neighbors: shape {neighbors.shape} found, expected [{count}, k]")
    if not 0 <= neighbors.min() <= neighbors.max() < count:
        raise ValueError(f"neighbors: indices found outside 0 to {count - 1}")
    same = sum(int((groups[column] == groups).sum()) for column in neighbors.T)  # a column at a time bounds the memory
    share = np.bincount(groups.astype(np.int64)) / count
    return same / neighbors.size - float(np.square(share).sum())
