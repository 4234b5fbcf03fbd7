"""Merging of over-clusters: clusters with many links between neighbouring images become one group."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = np.iinfo(np.int64).min
"""Gain of a merge without a partner."""
PAIRS = 1 << 20
"""Pairs of an image and a neighbour that are counted at a time, at least."""


@dataclass(frozen=True)
class Merge:
    """A step that merges two groups."""

    groups: int
    """Number of groups before the step."""
    first: int
    """The group that remains; a group has the lowest number of its clusters."""
    second: int
    """The group that is merged into it."""
    strength: float
    """Number of links between the two groups, divided by the number expected of random links: 0 without any link."""
    modularity: float
    """Modularity before the step (Newman and Girvan 2004): share of links within groups, minus the expected share."""


def count_links(assignment: NDArray[Any], neighbors: NDArray[Any], *, clusters: int) -> NDArray[np.int64]:
    """Count the links between each two clusters, [C, C]; every pair of an image and a neighbour of it is a link.

    assignment: [N] clusters below `clusters`. neighbors: [N, K] indices of images. The result is symmetric: each link
    is counted in both directions, so that its sum is 2·N·K.
    Raises ValueError for other shapes and indices.
    """
    assignment, neighbors = np.asarray(assignment), np.asarray(neighbors)
    count = len(assignment)
    if assignment.ndim != 1 or not count or not 0 <= assignment.min() <= assignment.max() < clusters:
        raise ValueError(f"assignment: shape {assignment.shape} found, expected [N] of clusters below {clusters}")
    if neighbors.ndim != 2 or len(neighbors) != count or not neighbors.size:
        raise ValueError(f"neighbors: shape {neighbors.shape} found, expected [{count}, K]")
    if not 0 <= neighbors.min() <= neighbors.max() < count:
        raise ValueError(f"neighbors: expected indices below {count}")
    links = np.zeros(clusters * clusters, dtype=np.int64)
    # At least as many pairs at a time as there are counts, so that these are added up in the time of the pairs.
    rows = max(1, max(PAIRS, clusters * clusters) // neighbors.shape[1])
    for start in range(0, count, rows):
        own = assignment[start : start + rows].astype(np.int64)[:, None]
        pairs = own * clusters + assignment[neighbors[start : start + rows]]
        links += np.bincount(pairs.ravel(), minlength=clusters**2)
    directed = links.reshape(clusters, clusters)
    return directed + directed.T


def merge_steps(links: NDArray[np.int64]) -> list[Merge]:
    """Merge groups two at a time, from one group per cluster to a single group, and return the steps.

    links: [C, C] as returned by `count_links`. Each step merges the pair of groups whose merge increases the modularity
    most (Clauset, Newman and Moore 2004): that with the largest l_ab / L - l_a l_b / L², with l_ab the links between
    groups a and b, l_a the links of a and L all links. Pairs are compared exactly, in integers; among equal pairs the
    one with the lowest clusters is merged first. Clusters without links (empty clusters) are left out.
    """
    clusters = np.flatnonzero(links.sum(axis=1))
    pairs = _Pairs(links.astype(np.int64)[np.ix_(clusters, clusters)])
    alive = np.arange(len(clusters))
    steps = []
    while len(alive) > 1:
        a, b = pairs.best(alive)
        degree = pairs.degree[alive]
        inside = int(pairs.links.diagonal()[alive].sum())
        modularity = inside / pairs.total - float(((degree / pairs.total) ** 2).sum())
        strength = float(pairs.links[a, b]) * pairs.total / float(pairs.degree[a] * pairs.degree[b])
        steps.append(Merge(len(alive), int(clusters[a]), int(clusters[b]), strength, modularity))
        alive = alive[alive != b]
        pairs.merge(a, b, alive)
    return steps


class _Pairs:
    """The links between groups, and the best partner of each group among those with a higher number.

    A merge changes the gains of the pairs of the merged group alone, so that it takes the time of a few rows instead of
    that of all pairs.
    """

    def __init__(self, links: NDArray[np.int64]) -> None:
        """links: symmetric [C, C]; changed in place."""
        self.links = links
        """[C, C]; the rows and columns of groups that were merged into another one are not used."""
        self.total = int(links.sum())
        """Number of links."""
        self.degree: NDArray[np.int64] = links.sum(axis=1)
        """Links of each group, [C]."""
        self.partner = np.full(len(links), -1)
        """Best partner of each group, the lowest if equal; -1 for the highest group, which has none."""
        self.gain = np.full(len(links), NONE)
        """Gain of a merge with it: l_ab · L - l_a · l_b."""
        self._find(np.arange(len(links)), np.arange(len(links)))

    def best(self, alive: NDArray[np.int64]) -> tuple[int, int]:
        """Return the pair with the highest gain; the lowest one if several are equal."""
        a = int(alive[self.gain[alive].argmax()])
        return a, int(self.partner[a])

    def merge(self, a: int, b: int, alive: NDArray[np.int64]) -> None:
        """Merge group b into group a; alive: the remaining groups, ascending."""
        self.links[a] += self.links[b]
        self.links[:, a] += self.links[:, b]
        self.degree[a] += self.degree[b]
        lower = alive[alive < a]
        gain = self.links[lower, a] * self.total - self.degree[lower] * self.degree[a]
        better = (gain > self.gain[lower]) | ((gain == self.gain[lower]) & (a < self.partner[lower]))
        # The partner was merged, and the new group may gain less than another one.
        lost = ((self.partner[alive] == a) | (self.partner[alive] == b)) & (alive != a)
        lost[: len(lower)] &= ~better
        self.partner[lower[better]], self.gain[lower[better]] = a, gain[better]
        self._find(np.append(alive[lost], a), alive)

    def _find(self, groups: NDArray[np.int64], alive: NDArray[np.int64]) -> None:
        """Find the best partners of some groups."""
        for group in groups:
            higher = alive[alive > group]
            if not len(higher):
                self.partner[group], self.gain[group] = -1, NONE
                continue
            gain = self.links[group, higher] * self.total - self.degree[group] * self.degree[higher]
            place = gain.argmax()
            self.partner[group], self.gain[group] = higher[place], gain[place]


def merge(assignment: NDArray[Any], neighbors: NDArray[Any], *, clusters: int) -> NDArray[np.int64]:
    """Merge over-clusters to `clusters` groups and return the group of each over-cluster, [C] from 0 to clusters - 1.

    assignment: [N] cluster of each image, where C is the highest plus one; or [N, C] probabilities, where each image
    belongs to its most probable cluster. neighbors: [N, K] indices of images. clusters: number of groups.
    Groups are numbered in the order of their first images, so that a permutation of the clusters only permutes the
    result. Empty clusters join group 0. If at most `clusters` clusters have images, none of these are merged.
    Raises ValueError if `clusters` is not between 1 and C, and in the cases of `count_links`.
    """
    assignment = np.asarray(assignment)
    count = assignment.shape[1] if assignment.ndim == 2 else int(assignment.max(initial=-1)) + 1
    if assignment.ndim == 2:
        assignment = assignment.argmax(axis=1)
    if not 1 <= clusters <= count:
        raise ValueError(f"clusters: {clusters} groups found, expected between 1 and the {count} clusters")
    place, used = by_first_image(assignment, count)
    steps = merge_steps(count_links(place[assignment], neighbors, clusters=count))
    group = merged(steps, count, clusters)
    # The lower group of a pair remains, so the numbers of the groups are in the order of their first images.
    remaining = np.unique(group[:used])
    return np.where(place < used, np.searchsorted(remaining, group[place]), 0)


def merged(steps: list[Merge], count: int, clusters: int) -> NDArray[np.int64]:
    """Return the group of each cluster, [count], after the steps that leave `clusters` groups."""
    group = np.arange(count)
    for step in steps:
        if step.groups > clusters:
            group[step.second] = step.first
    # A group is merged into a lower one, so that in this order each cluster finds the last group of that one.
    for cluster in range(count):
        group[cluster] = group[group[cluster]]
    return group


def by_first_image(assignment: NDArray[Any], count: int) -> tuple[NDArray[np.int64], int]:
    """Rank clusters by the index of their first image, empty clusters last.

    Returns the rank of each cluster, [count], and the number of clusters that are not empty.
    """
    found, first = np.unique(assignment, return_index=True)
    place = np.full(count, -1)
    place[found[first.argsort()]] = np.arange(len(found))
    place[place < 0] = np.arange(len(found), count)
    return place, len(found)
