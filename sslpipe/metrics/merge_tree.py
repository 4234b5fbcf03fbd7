"""The merge tree of a model's groups: which two become one, step by step, until one group is left.

A tree is a linkage matrix as scipy has it, float64 [K - 1, 4]. Each row is a merge: the two nodes, the lower number
first, the height, and the number of leaves below. Nodes 0 to K - 1 are the groups, and row i makes node K + i.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.metrics.pca import Features, unit_chunks

By = Literal["means", "neighbors"]
Tree = NDArray[np.float64]
Distances = NDArray[np.float64]
LEAST = -0.5
"""The least that a merge adds to the neighbour modularity, of two halves without a pair between them."""
Update = Callable[[Distances, Distances, float, float, float, NDArray[np.float64]], Distances]
"""A function of the distances of two nodes to all others, [K] each, the distance and the sizes of the two, and the
sizes of all others [K], to the distances of the merged node."""


def ward_tree(means: NDArray[np.float64], size: NDArray[np.int64], home: NDArray[np.int64]) -> Tree:
    """Return the tree of Ward's criterion (Ward 1963): each merge adds least to the squared distances from the means.

    means: [K, D], of the images in each group; those of empty groups are not read. size: [K], images in each group.
    home: as in `_tree`. A height is √(2 n_a n_b / (n_a + n_b)) |m_a - m_b|, so that the tree is the upper part of
    scipy's tree of all images if those of a group are equal.
    """
    squared = np.square(means).sum(axis=1)
    distance = np.maximum(squared[:, None] + squared - 2 * means @ means.T, 0)
    distance *= 2 * size[:, None] * size / np.maximum(size[:, None] + size, 1)

    def update(
        to_a: Distances, to_b: Distances, between: float, size_a: float, size_b: float, size: NDArray[np.float64]
    ) -> Distances:
        total = size_a + size_b + size
        merged: Distances = ((size_a + size) * to_a + (size_b + size) * to_b - size * between) / total
        return merged

    tree = _tree(distance, size, home, update)
    tree[:, 2] = np.sqrt(tree[:, 2])
    return tree


def modularity_tree(pairs: NDArray[np.float64], size: NDArray[np.int64], home: NDArray[np.int64]) -> Tree:
    """Return the tree in which each merge leaves the neighbour modularity as high as possible (as Newman 2004).

    pairs: symmetric [K, K], the number of pairs of an image and a neighbour in each two groups, in both directions.
    size: [K], images in each group. home: as in `_tree`. A merge adds pairs / all pairs - 2 · the product of both
    groups' shares of images to `neighbor_modularity`. A height is how much less than the best merge of two of the
    model's groups that is, or the height before if that is more.
    """
    share = size / max(int(size.sum()), 1)
    # The diagonal counts the pairs within a group twice, as the rest counts those between two groups.
    gain = pairs / max(float(pairs.sum()) / 2, 1) - 2 * share[:, None] * share
    gain[size == 0] = gain[:, size == 0] = -np.inf
    np.fill_diagonal(gain, -np.inf)
    best = float(gain.max(initial=LEAST))

    def update(
        to_a: Distances, to_b: Distances, between: float, size_a: float, size_b: float, size: NDArray[np.float64]
    ) -> Distances:
        return to_a + to_b - best

    return _tree(best - gain, size, home, update)


def _tree(distance: Distances, size: NDArray[np.int64], home: NDArray[np.int64], update: Update) -> Tree:
    """Return the tree that merges the two nodes at the least distance, again and again.

    distance: [K, K], symmetric. size: [K], images in each group. home: [K], of each empty group the one that it is
    merged with. These merges come first, at height 0, so that the groups of a level have images if as many of the
    model's own have.
    """
    count = len(size)
    distance, weight = distance.copy(), size.astype(np.float64)
    node, leaves, tree = list(range(count)), [1] * count, np.zeros((count - 1, 4))
    steps = 0

    def merge(a: int, b: int, height: float) -> None:
        nonlocal steps
        leaves[a] += leaves[b]
        tree[steps] = (*sorted((node[a], node[b])), height, leaves[a])
        node[a] = count + steps
        steps += 1

    for each in np.flatnonzero(size == 0).tolist():
        merge(int(home[each]), each, 0.0)
    distance[size == 0] = distance[:, size == 0] = np.inf
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(axis=1)
    least = distance.min(axis=1)
    height = 0.0
    while steps < count - 1:
        a = int(least.argmin())
        b = int(nearest[a])
        height = max(height, float(distance[a, b]))  # rounding may lower it
        merge(a, b, height)
        merged = update(distance[a], distance[b], distance[a, b], weight[a], weight[b], weight)
        weight[a] += weight[b]
        distance[b] = distance[:, b] = np.inf
        alive = np.isfinite(distance[a])
        distance[a, alive] = distance[alive, a] = merged[alive]
        least[b] = np.inf
        nearer = alive & (distance[a] < least)
        nearest[nearer], least[nearer] = a, distance[a, nearer]
        stale = np.flatnonzero(((nearest == a) | (nearest == b)) & ~nearer & np.isfinite(least))
        for row in {a, *stale.tolist()}:
            nearest[row] = distance[row].argmin()
            least[row] = distance[row, nearest[row]]
    return tree


def homes(group: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return of each group without images the one whose images have the highest total probability of it, [K].

    group: [N]. logits: [N, K]. The home of a group with images is itself.
    """
    count = logits.shape[1]
    home, size = np.arange(count), np.bincount(group, minlength=count)
    used, empty = np.flatnonzero(size), np.flatnonzero(size == 0)
    if len(empty):
        largest = logits.max(axis=1)
        total = np.exp(logits - largest[:, None]).sum(axis=1)
        for each in empty.tolist():
            probability = np.exp(logits[:, each] - largest) / total
            home[each] = used[np.bincount(group, weights=probability, minlength=count)[used].argmax()]
    return home


def group_means(group: NDArray[np.int64], rows: Features, groups: int) -> NDArray[np.float64]:
    """Return the mean of the L2-normalised rows of each group, [K, D]; zeros for an empty one.

    group: [N]. rows: [N, D], of which a part at a time is in memory.
    """
    total = np.zeros((groups, rows.shape[1]))
    for start, unit in unit_chunks(rows):
        of = group[start : start + len(unit)]
        order = np.argsort(of, kind="stable")
        firsts = np.flatnonzero(np.diff(of[order], prepend=-1))
        total[of[order][firsts]] += np.add.reduceat(unit[order].astype(np.float64), firsts, axis=0)
    means: NDArray[np.float64] = total / np.maximum(np.bincount(group, minlength=groups), 1)[:, None]
    return means


def neighbor_pairs(group: NDArray[np.int64], neighbors: NDArray[Any], groups: int) -> NDArray[np.float64]:
    """Return the number of pairs of an image and a neighbour in each two groups, in both directions, [K, K].

    group: [N]. neighbors: [N, k], indices of images.
    """
    pairs = np.zeros((groups, groups))
    for column in neighbors.T:  # a column at a time bounds the memory
        pairs += np.bincount(group * groups + group[column], minlength=groups * groups).reshape(groups, groups)
    return pairs + pairs.T
