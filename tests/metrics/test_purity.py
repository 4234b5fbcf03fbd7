"""Purity of neighbours against loops."""

import numpy as np
import pytest

from sslpipe.metrics.neighbors import purities, purity


def purity_by_loops(neighbors: np.ndarray, label: np.ndarray, k: int) -> float:
    """Over all pairs with two known labels."""
    pairs = [
        (label[i], label[j]) for i, row in enumerate(neighbors) for j in row[:k] if label[i] >= 0 and label[j] >= 0
    ]
    return float(np.mean([a == b for a, b in pairs]))


def test_purity_counts_pairs_of_known_labels() -> None:
    random = np.random.default_rng(0)
    neighbors, label = random.integers(60, size=(60, 7)), random.integers(-1, 3, size=60)
    found = purity(neighbors, label, (1, 5, 7))
    assert found == pytest.approx({k: purity_by_loops(neighbors, label, k) for k in (1, 5, 7)})


def test_purity_by_hand() -> None:
    neighbors = np.array([[1, 2], [0, 2], [3, 0], [2, 1]])
    assert purity(neighbors, np.array([0, 0, 1, 1]), [1, 2]) == {1: 1, 2: 0.5}
    assert purity(neighbors, np.array([0, 0, 1, -1]), [1, 2]) == {1: 1, 2: 2 / 5}


def test_purity_without_any_known_pair_is_nan() -> None:
    assert np.isnan(purity(np.array([[1], [0]]), np.array([0, -1]), [1])[1])


@pytest.mark.parametrize(
    ("neighbors", "label", "k", "message"),
    [
        ([[1], [0]], [0, 0], 2, "k: 2 found, expected between 1 and the 1 neighbours"),
        ([[1], [0]], [0, 0], 0, "k: 0 found"),
        ([[1], [2]], [0, 0], 1, "indices below 2"),
        ([[1], [-1]], [0, 0], 1, "indices below 2"),
        ([[1], [0]], [-1, -1], 1, "none of 2 labels is known"),
        ([[1]], [0, 0], 1, "1 rows found, expected one for each of 2 labels"),
    ],
)
def test_wrong_input_is_named(neighbors: list[list[int]], label: list[int], k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        purity(np.array(neighbors), np.array(label), [k])


def test_a_share_of_few_pairs_is_left_out():
    label = np.full(60, -1)
    label[:20] = 0
    neighbors = (np.arange(60)[:, None] + np.arange(1, 4)) % 60
    # 19, 37 and 54 pairs of an image and one of its first 1, 2, 3 neighbours have known labels.
    assert purities(neighbors, label) == {2: 1.0, 3: 1.0}
    assert purities(neighbors, np.full(60, -1)) == {}
