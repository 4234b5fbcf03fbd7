"""Merging of over-clusters: clusters with many links between neighbouring images become one group."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    for column in neighbors.T:
        links += np.bincount(assignment.astype(np.int64) * clusters + assignment[column], minlength=clusters**2)
    directed = links.reshape(clusters, clusters)
    return directed + directed.T


def merge_steps(links: NDArray[np.int64]) -> list[Merge]:
    """Merge groups two at a time, from one group per cluster to a single group, and return the steps.

    links: [C, C] as returned by `count_links`. Each step merges the pair of groups whose merge increases the modularity
    most (Clauset, Newman and Moore 2004): that with the largest l_ab / L - l_a l_b / L², with l_ab the links between
    groups a and b, l_a the links of a and L all links. Pairs are compared exactly, in integers; among equal pairs the
    one with the lowest clusters is merged first. Clusters without links (empty clusters) are left out.
    """
    links = links.astype(np.int64)
    total = int(links.sum())
    alive = np.flatnonzero(links.sum(axis=1))
    links = links[np.ix_(alive, alive)]
    steps = []
    while len(alive) > 1:
        degree = links.sum(axis=1)
        expected = np.outer(degree, degree)
        excess = links * total - expected
        excess[np.tril_indices(len(alive))] = np.iinfo(np.int64).min
        a, b = (int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
        modularity = links.trace() / total - float(((degree / total) ** 2).sum())
        strength = float(links[a, b]) * total / float(expected[a, b])
        steps.append(Merge(len(alive), int(alive[a]), int(alive[b]), strength, modularity))
        links[a] += links[b]
        links[:, a] += links[:, b]
        links = np.delete(np.delete(links, b, axis=0), b, axis=1)
        alive = np.delete(alive, b)
    return steps


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
            group[group == step.second] = step.first
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
