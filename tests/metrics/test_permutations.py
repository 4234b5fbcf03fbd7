"""Namings of a classifier's outputs against enumeration, and those known beforehand."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.metrics.clustering import cluster_accuracy
from sslpipe.metrics.permutations import permutation_accuracies


def by_enumeration(votes: np.ndarray, prediction: np.ndarray, label: np.ndarray) -> list[tuple[float, float]]:
    """(score, accuracy: eq. 7 for one P) of all permutations, highest score first; label -1 is left out."""
    images = [(p, y) for p, y in zip(prediction, label, strict=True) if y >= 0]
    rows = []
    for naming in permutations(range(len(votes))):
        score = sum(votes[output, naming[output]] for output in range(len(votes)))
        rows.append((score, sum(naming[p] == y for p, y in images) / len(images)))
    return sorted(rows, reverse=True)


@pytest.mark.parametrize("k", [1, 10, 100, 720, 1000])
def test_rows_are_those_of_all_720_permutations(k: int) -> None:
    random = np.random.default_rng(0)
    votes = random.random((6, 6))
    prediction, label = random.integers(6, size=50), random.integers(-1, 6, size=50)
    expected = by_enumeration(votes, prediction, label)[:k]
    rows = permutation_accuracies(votes, prediction, label, k=k)
    assert [row["rank"] for row in rows] == list(range(1, min(k, 720) + 1))
    assert [row["score"] for row in rows] == pytest.approx([score for score, _ in expected])
    assert [row["accuracy"] for row in rows] == pytest.approx([accuracy for _, accuracy in expected])
    assert [row["best"] for row in rows] == [max(row["accuracy"] for row in rows[: i + 1]) for i in range(len(rows))]


@given(st.integers(0, 1000), st.integers(1, 4))
def test_the_best_of_all_is_the_cluster_accuracy(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    votes = random.integers(3, size=(classes, classes))  # with equal scores
    prediction, label = random.integers(classes, size=(2, 20))
    rows = permutation_accuracies(votes, prediction, label, k=24)
    assert rows[-1]["best"] == cluster_accuracy(prediction, label, n_clusters=classes, n_classes=classes)[0]


def test_by_hand() -> None:
    # Output 0 speaks for class 1 and output 1 for class 0; of three known images two agree.
    votes = np.array([[1.0, 3.0], [2.5, 1.5]])
    assert permutation_accuracies(votes, np.array([0, 1, 1, 0]), np.array([1, 0, 1, -1]), k=9) == [
        {"rank": 1, "score": 5.5, "accuracy": pytest.approx(2 / 3), "best": pytest.approx(2 / 3)},
        {"rank": 2, "score": 2.5, "accuracy": pytest.approx(1 / 3), "best": pytest.approx(2 / 3)},
    ]


def test_votes_are_rows_of_outputs_and_columns_of_classes() -> None:
    # A turn of three differs from its inverse.
    votes = np.eye(3)[[1, 2, 0]]
    prediction = np.array([0, 1, 2])
    assert permutation_accuracies(votes, prediction, np.array([1, 2, 0]), k=1)[0]["accuracy"] == 1
    assert permutation_accuracies(votes, prediction, np.array([2, 0, 1]), k=1)[0]["accuracy"] == 0


@pytest.mark.parametrize(
    ("votes", "prediction", "label", "message"),
    [
        (np.ones((2, 3)), [0, 1], [0, 1], r"votes: shape \(2, 3\) found"),
        (np.array([[1, np.nan], [0, 1]]), [0, 1], [0, 1], "score: expected a finite"),
        (np.eye(2), [0, 2], [0, 1], "prediction: 2 found, expected below 2"),
        (np.eye(2), [0, 1], [0, 2], "label: 2 found, expected below 2"),
        (np.eye(2), [0, 1], [-1, -1], "none of 2 labels is known"),
    ],
)
def test_wrong_input_is_named(votes: np.ndarray, prediction: list[int], label: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        permutation_accuracies(votes, np.array(prediction), np.array(label), k=1)
