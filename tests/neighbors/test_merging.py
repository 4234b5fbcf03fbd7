"""Merging over-clusters: against loops over pairs, and what must not change the answer."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from sslpipe.neighbors import merging
from sslpipe.neighbors.merging import count_links, merge, merge_steps
from sslpipe.neighbors.search import nearest_neighbors

Ints = NDArray[np.int64]


def merge_by_loops(assignment: Ints, neighbors: Ints, clusters: int) -> list[set[int]]:
    """Groups of clusters that hold images, after merges of the pair that adds most to the modularity.

    Clusters go by their first image, so of equal pairs the one with the earlier images is merged.
    """
    groups = [{int(c)} for c in dict.fromkeys(assignment.tolist())]
    pairs = [(int(assignment[i]), int(assignment[j])) for i, row in enumerate(neighbors) for j in row]
    ends = [c for pair in pairs for c in pair]
    while len(groups) > clusters:
        best, place = None, (0, 0)
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                between = sum(
                    (p in groups[a] and q in groups[b]) or (p in groups[b] and q in groups[a]) for p, q in pairs
                )
                chance = sum(c in groups[a] for c in ends) * sum(c in groups[b] for c in ends)
                excess = between * len(ends) - chance  # the modularity's gain, in whole numbers
                if best is None or excess > best:
                    best, place = excess, (a, b)
        groups[place[0]] |= groups.pop(place[1])
    return groups


def drawn(seed: int, images: int, clusters: int, k: int) -> tuple[Ints, Ints]:
    rng = np.random.default_rng(seed)
    return rng.integers(clusters, size=images), rng.integers(images, size=(images, k))


def blobs(groups: int, seed: int, images: int = 240) -> tuple[NDArray[np.float64], Ints]:
    rng = np.random.default_rng(seed)
    label = np.arange(images) % groups
    return 3 * rng.standard_normal((groups, 8))[label] + 0.5 * rng.standard_normal((images, 8)), label


@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 7), st.integers(1, 3), st.data())
@settings(deadline=None, max_examples=60)
def test_groups_are_those_of_the_loops(seed: int, images: int, clusters: int, k: int, data: st.DataObject) -> None:
    assignment, neighbors = drawn(seed, images, clusters, k)
    there = int(assignment.max()) + 1
    wanted = data.draw(st.integers(1, there))
    groups = merge(assignment, neighbors, clusters=wanted)
    expected = merge_by_loops(assignment, neighbors, wanted)
    assert groups.shape == (there,)
    for number, members in enumerate(expected):
        assert {c for c in set(assignment.tolist()) if groups[c] == number} == members
    assert set(groups[np.setdiff1d(np.arange(there), assignment)].tolist()) <= {0}


@given(st.integers(0, 10**6), st.integers(8, 30), st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_other_names_of_the_clusters_change_nothing(seed: int, images: int, wanted: int) -> None:
    assignment, neighbors = drawn(seed, images, 8, 2)
    assignment[-8:] = np.arange(8)
    renamed = np.random.default_rng(seed + 1).permutation(8)[assignment]
    groups = merge(assignment, neighbors, clusters=wanted)
    assert (merge(renamed, neighbors, clusters=wanted)[renamed] == groups[assignment]).all()


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_groups_are_numbered_by_their_first_images_and_nest(seed: int, images: int, clusters: int) -> None:
    assignment, neighbors = drawn(seed, images, clusters, 2)
    there, used = int(assignment.max()) + 1, len(np.unique(assignment))
    finer = np.arange(images)
    for wanted in range(there, 0, -1):
        group = merge(assignment, neighbors, clusters=wanted)[assignment]
        assert list(dict.fromkeys(group.tolist())) == list(range(min(wanted, used)))
        for member in np.unique(finer):  # what was together stays together
            assert len(np.unique(group[finer == member])) == 1
        finer = group


@given(st.integers(0, 10**6), st.integers(2, 20), st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_links_are_counted_from_both_ends_and_the_modularity_adds_up(seed: int, images: int, clusters: int) -> None:
    assignment, neighbors = drawn(seed, images, clusters, 3)
    links = count_links(assignment, neighbors, clusters=clusters)
    expected = np.zeros((clusters, clusters), dtype=int)
    for i in range(images):
        for j in neighbors[i]:
            expected[assignment[i], assignment[j]] += 1
            expected[assignment[j], assignment[i]] += 1
    assert (links == expected).all()
    assert links.sum() == 2 * neighbors.size
    steps, total = merge_steps(links), links.sum()
    degree = {i: row.sum() for i, row in enumerate(links)}
    for step, after in pairwise(steps):
        chance = degree[step.first] * degree[step.second] / total**2
        assert after.groups == step.groups - 1
        assert after.modularity == pytest.approx(step.modularity + 2 * (step.strength - 1) * chance)
        degree[step.first] += degree.pop(step.second)


@pytest.mark.parametrize("groups", [2, 4, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_split_blobs_come_together_again(groups: int, seed: int) -> None:
    features, label = blobs(groups, seed)
    neighbors = nearest_neighbors(features, k=10)[0]
    parts = label * 3 + np.random.default_rng(seed).integers(3, size=len(label))
    merged = merge(parts, neighbors, clusters=groups)[parts]
    assert adjusted_rand_score(label, merged) == 1
    strength = [step.strength for step in merge_steps(count_links(parts, neighbors, clusters=3 * groups))]
    assert min(strength[: 2 * groups]) > 1 > max(strength[2 * groups :])


def test_probabilities_count_by_their_highest_and_an_empty_cluster_joins_the_first_group() -> None:
    probability = np.array([[0.1, 0.9, 0, 0], [0.2, 0.8, 0, 0], [0, 0, 0, 1], [0, 0.1, 0, 0.9]])
    neighbors = np.array([[1], [0], [3], [2]])
    assert merge(probability, neighbors, clusters=2).tolist() == [0, 0, 0, 1]
    assert merge(probability.argmax(axis=1), neighbors, clusters=2).tolist() == [0, 0, 0, 1]
    assert merge(probability, neighbors, clusters=4).tolist() == [0, 0, 0, 1]
    assert merge(probability, neighbors, clusters=1).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("assignment", "neighbors", "clusters", "message"),
    [
        ([0, 1], [[1], [0]], 3, "3 groups found, expected between 1 and the 2 clusters"),
        ([0, 1], [[1], [0]], 0, "0 groups found"),
        ([0, -1], [[1], [0]], 1, "assignment"),
        ([0, 1], [[1], [2]], 1, "expected indices below 2"),
        ([0, 1], [[1]], 1, r"expected \[2, K\]"),
        ([0, 1], [[], []], 1, r"expected \[2, K\]"),
    ],
)
def test_what_does_not_fit_is_refused(assignment: list, neighbors: list, clusters: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        merge(np.array(assignment), np.array(neighbors), clusters=clusters)


def all_pairs(links: Ints) -> list[tuple[int, int]]:
    """The pairs that are merged, each found by comparing all pairs of groups."""
    links, steps, total = links.copy(), [], int(links.sum())
    alive = np.flatnonzero(links.sum(axis=1)).tolist()
    while len(alive) > 1:
        degree = links.sum(axis=1)
        pairs = [(a, b) for a in alive for b in alive if a < b]
        a, b = max(pairs, key=lambda p: (links[p] * total - degree[p[0]] * degree[p[1]], -p[0], -p[1]))
        steps.append((a, b))
        links[a] += links[b]
        links[:, a] += links[:, b]
        links[b] = links[:, b] = 0
        alive.remove(b)
    return steps


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("images", [60, 400])
def test_pairs_are_those_of_a_comparison_of_all(seed: int, images: int) -> None:
    assignment, neighbors = drawn(seed, images, 14, 2)  # few images: many equal gains
    links = count_links(assignment, neighbors, clusters=14)
    assert [(step.first, step.second) for step in merge_steps(links)] == all_pairs(links)


def test_a_merge_compares_few_rows_and_not_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    find = merging._Pairs._find

    def counting(self: merging._Pairs, groups: Ints, alive: Ints) -> None:
        found.extend(groups)
        find(self, groups, alive)

    monkeypatch.setattr(merging._Pairs, "_find", counting)
    assignment = np.repeat(np.arange(200), 10)
    neighbors = (np.arange(2000)[:, None] + np.random.default_rng(0).integers(1, 40, size=(2000, 5))) % 2000
    steps = merge_steps(count_links(assignment, neighbors, clusters=200))
    assert len(steps) == 199
    assert len(found) < 200 + 6 * 199


def test_links_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    assignment, neighbors = drawn(0, 500, 3, 4)
    expected = count_links(assignment, neighbors, clusters=3)
    monkeypatch.setattr(merging, "PAIRS", 100)
    assert (count_links(assignment, neighbors, clusters=3) == expected).all()
    assert expected.sum() == 2 * 500 * 4
