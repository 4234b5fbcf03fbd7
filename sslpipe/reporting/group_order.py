"""The order of groups in which linked ones stand side by side."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

MOST_OPTIMAL = 300
"""Groups up to which the best order of the tree's leaves is computed (own choice: of 1,000 it takes 10 s)."""


def group_links(
    group: NDArray[np.int64], probability: NDArray[np.float32], neighbors: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how strongly groups are linked, symmetric [K, K], with zeros for empty groups.

    The link from group a to group b is the mean probability of b, plus the share of neighbours in b, of the images in
    a; both directions are added. group: [N]. probability: [N, K]. neighbors: [N, k], indices of images.
    """
    groups = probability.shape[1]
    size = np.bincount(group, minlength=groups)
    order = np.argsort(group, kind="stable")
    total = np.zeros((groups, groups))
    for start, stop, each in zip(np.cumsum(size) - size, np.cumsum(size), range(groups), strict=True):
        if stop > start:
            total[each] = probability[order[start:stop]].sum(axis=0, dtype=np.float64)
    if neighbors.shape[1]:
        pairs = np.repeat(group, neighbors.shape[1]) * groups + group[neighbors.ravel()]
        near = np.bincount(pairs, minlength=groups * groups).reshape(groups, groups)
        total += near / neighbors.shape[1]
    mean = total / np.maximum(size, 1)[:, None]
    links: NDArray[np.float64] = mean + mean.T
    return links


def group_order(links: NDArray[Any], size: NDArray[np.int64]) -> list[int]:
    """Return all groups in an order in which linked groups are near each other; empty groups are last.

    It is the order of the leaves of average linkage, for up to MOST_OPTIMAL groups the best such one (Bar-Joseph et
    al. 2001). links: [K, K], symmetric. size: [K], the number of images of each group.
    """
    used, empty = np.flatnonzero(size > 0), np.flatnonzero(size == 0)
    if len(used) < 3:
        return [*used.tolist(), *empty.tolist()]
    among = links[np.ix_(used, used)].astype(np.float64)
    among = (among + among.T) / 2
    np.fill_diagonal(among, 0)
    # Logarithms: most links are tiny, and differences among strong ones would decide alone.
    distance = -np.log(np.maximum(among, 1e-6))
    distance -= distance.min()
    np.fill_diagonal(distance, 0)
    pairs = squareform(distance, checks=False)
    tree = linkage(pairs, "average")
    if len(used) <= MOST_OPTIMAL:
        tree = optimal_leaf_ordering(tree, pairs)
    return [*used[leaves_list(tree)].tolist(), *empty.tolist()]
