"""Images whose neighbours are in the same group: the ones whose group is most likely right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""Tolerance of a share in floating-point numbers."""


def agreeing(groups: NDArray[Any], neighbors: NDArray[Any], share: float) -> NDArray[np.bool_]:
    """Return which images [N] have at least this share of their neighbours in their own group.

    groups: [N]. neighbors: [N, k] indices of images.
    """
    same = np.zeros(len(groups), dtype=np.int64)
    for column in neighbors.T:  # a column at a time bounds the memory
        same += groups[column] == groups
    kept: NDArray[np.bool_] = same >= share * neighbors.shape[1] - ROUNDING
    return kept


def reliable_images(
    groups: NDArray[np.int64], confidence: NDArray[Any], neighbors: NDArray[Any], *, agreement: float, share: float
) -> NDArray[np.int64]:
    """Return the images whose groups serve as labels, ascending indices (SPICE, Niu et al. 2022, arXiv:2103.09382).

    groups: [N]. confidence: [N], probability of an image's group. neighbors: [N, k] indices of images. An image is
    reliable if at least the share `agreement` of its neighbours is in its group. Of a group of n images at most
    ceil(share · n) reliable ones are returned, the most confident first, and of equally confident ones the first.
    """
    reliable = np.flatnonzero(agreeing(groups, neighbors, agreement))
    most = np.ceil(share * np.bincount(groups) - ROUNDING).astype(np.int64)
    order = reliable[np.lexsort((reliable, -confidence[reliable], groups[reliable]))]
    place = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
    return np.sort(order[place < most[groups[order]]])
