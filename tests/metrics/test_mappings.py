"""Murty's k best mappings against enumeration."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.metrics import mappings
from sslpipe.metrics.clustering import cluster_accuracy, contingency
from sslpipe.metrics.mappings import UNMAPPED, k_best_mappings


@pytest.mark.parametrize("shape", [(6, 6), (3, 5), (5, 3), (1, 4), (4, 1)])
def test_k_best_mappings_are_those_of_enumeration(shape: tuple[int, int]) -> None:
    clusters, classes = shape
    score = np.random.default_rng(1).standard_normal(shape)
    wide = score if clusters <= classes else score.T
    every = permutations(range(wide.shape[1]), len(wide))
    totals = sorted(sum(row[c] for row, c in zip(wide, mapping, strict=True)) for mapping in every)
    found = k_best_mappings(score, 1000)
    assert [total for total, _ in found] == pytest.approx(totals[::-1])
    assert len({tuple(mapping) for _, mapping in found}) == len(totals)
    for total, mapping in found:
        assert mapping.shape == (clusters,)
        used = np.flatnonzero(mapping != UNMAPPED)
        assert len(set(mapping[used])) == len(used) == min(shape)
        assert score[used, mapping[used]].sum() == pytest.approx(total)


def test_k_best_mappings_begin_with_the_hungarian_one() -> None:
    random = np.random.default_rng(2)
    prediction, label = random.integers(6, size=(2, 200))
    counts = contingency(prediction, label)
    accuracy, mapping = cluster_accuracy(prediction, label)
    (total, best), (second, _) = k_best_mappings(counts, 2)
    assert total == accuracy * 200
    assert counts[np.arange(6), best].sum() == counts[np.arange(6), mapping].sum()
    assert second <= total


@pytest.mark.parametrize("k", [1, 10, 100, 720, 1000])
@pytest.mark.parametrize("values", [1, 2, 3])
def test_k_best_mappings_of_equal_scores_differ(k: int, values: int) -> None:
    score = np.random.default_rng(5).integers(values, size=(6, 6))
    totals = sorted((sum(score[i, c] for i, c in enumerate(m)) for m in permutations(range(6))), reverse=True)
    found = k_best_mappings(score, k)
    assert [total for total, _ in found] == totals[:k]
    assert len({tuple(mapping) for _, mapping in found}) == min(k, 720)
    assert all(score[np.arange(6), mapping].sum() == total for total, mapping in found)


def test_wrong_scores_and_k_are_named() -> None:
    with pytest.raises(ValueError, match="score: expected a finite"):
        k_best_mappings(np.array([[0, np.nan]]), 1)
    with pytest.raises(ValueError, match="k: 0 found"):
        k_best_mappings(np.eye(2), 0)


@settings(max_examples=60, deadline=None)
@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 6)), k=st.integers(1, 130), seed=st.integers(0, 10_000))
def test_the_k_best_mappings_are_the_best_of_all(shape: tuple[int, int], k: int, seed: int) -> None:
    """Scores without equal sums, of few and of very different sizes: the mappings themselves are known."""
    random = np.random.default_rng(seed)
    score = random.standard_normal(shape) * 10.0 ** random.integers(-3, 4)
    wide = score if shape[0] <= shape[1] else score.T
    every = np.array(list(permutations(range(wide.shape[1]), len(wide))))
    totals = wide[np.arange(len(wide)), every].sum(axis=1)
    best = np.argsort(-totals, kind="stable")[:k]
    found = k_best_mappings(score, k)
    assert [total for total, _ in found] == pytest.approx(totals[best].tolist(), rel=1e-9, abs=1e-9)
    for expected, (_, mapping) in zip(every[best], found, strict=True):
        forward = mapping if shape[0] <= shape[1] else [int(np.flatnonzero(mapping == c)[0]) for c in range(shape[1])]
        assert list(forward) == expected.tolist()


def test_one_assignment_is_solved_from_scratch_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others follow from it by single paths, and of the parts that could be solved only few are."""
    whole, paths = [], []
    solve, path = mappings.linear_sum_assignment, mappings._Search.without
    monkeypatch.setattr(mappings, "linear_sum_assignment", lambda *a, **b: whole.append(1) or solve(*a, **b))
    monkeypatch.setattr(mappings._Search, "without", lambda *a: paths.append(1) or path(*a))
    size = 120
    score = np.random.default_rng(0).dirichlet(np.full(size, 0.05), size) + 0.2 * np.eye(size)
    assert len(k_best_mappings(score, 50)) == 50
    assert len(whole) == 1
    assert len(paths) < 50 * size / 4
