"""Over-clustering taken back: clusters that many neighbour links join become one group."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Merge:
    """One step: two groups become one."""

    groups: int
    """How many there are before it."""
    first: int
    """The group that stays; groups are numbered as the clusters that they began as."""
    second: int
    """The group that goes into it."""
    strength: float
    """Links between the two over those that chance would give: 1 as many, 0 none."""
    modularity: float
    """Share of links within groups less what chance would give, before the step; below 1 (Newman and Girvan 2004)."""


def count_links(assignment: NDArray[Any], neighbors: NDArray[Any], *, clusters: int) -> NDArray[np.int64]:
    """[C, C]: between the images of each two clusters the links from an image to a neighbour, counted from both ends.

    assignment: [N] clusters below `clusters`. neighbors: [N, K] indices of images. Symmetric; its sum is 2·N·K.
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
    """Steps from one group a cluster down to a single group, always of the pair with most links above chance.

    links: [C, C] as `count_links` makes them. The excess over chance of groups a and b is l_ab / L - l_a l_b / L²,
    with l_a the links of a and L all of them: what the merge adds to the modularity (Clauset, Newman and Moore 2004).
    It is compared as whole numbers, so exactly; of equal pairs the one with the lowest clusters goes first. A cluster
    without a link (an empty one) takes part in no step.
    """
    links = links.astype(np.int64)
    total = int(links.sum())
    alive = np.flatnonzero(links.sum(axis=1))
    links = links[np.ix_(alive, alive)]
    steps = []
    while len(alive) > 1:
        degree = links.sum(axis=1)
        chance = np.outer(degree, degree)
        excess = links * total - chance
        excess[np.tril_indices(len(alive))] = np.iinfo(np.int64).min
        a, b = (int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
        modularity = links.trace() / total - float(((degree / total) ** 2).sum())
        strength = float(links[a, b]) * total / float(chance[a, b])
        steps.append(Merge(len(alive), int(alive[a]), int(alive[b]), strength, modularity))
        links[a] += links[b]
        links[:, a] += links[:, b]
        links = np.delete(np.delete(links, b, axis=0), b, axis=1)
        alive = np.delete(alive, b)
    return steps


def merge(assignment: NDArray[Any], neighbors: NDArray[Any], *, clusters: int) -> NDArray[np.int64]:
    """The group of each over-cluster, [C] in 0..clusters - 1.

    assignment: [N] clusters of images, C of them up to the highest; or probabilities [N, C], of which the highest
    counts. neighbors: [N, K] indices of images. clusters: how many groups shall be left.
    Groups are numbered in the order of their first images, so a relabelling of the clusters changes nothing but the
    order of the answer. An empty cluster joins group 0. Where no more than `clusters` hold images, each is a group.
    Raises ValueError where `clusters` is not between 1 and C, and as `count_links`.
    """
    assignment = np.asarray(assignment)
    count = assignment.shape[1] if assignment.ndim == 2 else int(assignment.max(initial=-1)) + 1
    if assignment.ndim == 2:
        assignment = assignment.argmax(axis=1)
    if not 1 <= clusters <= count:
        raise ValueError(f"clusters: {clusters} groups asked of {count} clusters")
    place, used = by_first_image(assignment, count)
    steps = merge_steps(count_links(place[assignment], neighbors, clusters=count))
    group = merged(steps, count, clusters)
    # The group that stays is always the lower one, so the names of groups are in the order of their first images.
    names = np.unique(group[:used])
    return np.where(place < used, np.searchsorted(names, group[place]), 0)


def merged(steps: list[Merge], count: int, clusters: int) -> NDArray[np.int64]:
    """[count] the group that each cluster belongs to when the first steps have left `clusters` of them."""
    group = np.arange(count)
    for step in steps:
        if step.groups > clusters:
            group[group == step.second] = step.first
    return group


def by_first_image(assignment: NDArray[Any], count: int) -> tuple[NDArray[np.int64], int]:
    """[count] each cluster's place in the order of the clusters' first images, empty ones last; how many are not."""
    found, first = np.unique(assignment, return_index=True)
    place = np.full(count, -1)
    place[found[first.argsort()]] = np.arange(len(found))
    place[place < 0] = np.arange(len(found), count)
    return place, len(found)
