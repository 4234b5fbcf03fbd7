"""Accuracy and calibration against loops and the values known beforehand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.metrics.classification import accuracy, calibration_error
from sslpipe.metrics.clustering import clustering_metrics


def calibration_by_loops(probability: np.ndarray, label: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, eq. 3, with bins ((m - 1)/M, m/M]."""
    images = [(max(p), int(np.argmax(p)) == y) for p, y in zip(probability, label, strict=True) if y >= 0]
    total = 0.0
    for m in range(1, bins + 1):
        members = [(c, right) for c, right in images if (m - 1) / bins < c <= m / bins]
        if members:
            gap = np.mean([right for _, right in members]) - np.mean([c for c, _ in members])
            total += len(members) / len(images) * abs(gap)
    return total


def test_accuracy_leaves_unknown_labels_out() -> None:
    assert accuracy(np.array([0, 1, -1, 3]), np.array([0, 2, 1, -1])) == 1 / 3


@given(st.integers(0, 1000), st.sampled_from([1, 3, 15]), st.integers(2, 6))
def test_calibration_error_is_the_sum_over_bins(seed: int, bins: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    probability = random.dirichlet(np.full(classes, 0.3), size=40)
    label = random.integers(-1, classes, size=40)
    assert calibration_error(probability, label, bins=bins) == pytest.approx(
        calibration_by_loops(probability, label, bins)
    )


def test_half_precision_is_summed_in_float64() -> None:
    random = np.random.default_rng(0)
    half = random.dirichlet(np.ones(3), size=500).astype(np.float16)
    label = random.integers(3, size=500)
    assert calibration_error(half, label) == calibration_error(half.astype(np.float64), label)
    assert clustering_metrics(half) == clustering_metrics(half.astype(np.float64))


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not() -> None:
    certain = np.eye(3)
    assert calibration_error(certain, np.array([0, 1, 2])) == 0
    assert calibration_error(certain, np.array([1, 2, 0])) == 1


def test_uniform_guesses_are_calibrated() -> None:
    label = np.repeat(np.arange(4), 25)
    assert calibration_error(np.full((100, 4), 0.25), label) == pytest.approx(0)


def test_a_bin_holds_its_upper_edge() -> None:
    # 0.5, right, and 0.9, wrong: in two bins the gaps add up, in one they would cancel.
    assert calibration_error(np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([0, 0]), bins=2) == pytest.approx(
        (0.5 + 0.9) / 2
    )


def test_outcomes_drawn_from_the_probabilities_are_calibrated() -> None:
    random = np.random.default_rng(0)
    probability = random.dirichlet(np.ones(3), size=20000)
    label = (random.random(20000)[:, None] > probability.cumsum(axis=1)).sum(axis=1).clip(max=2)
    assert calibration_error(probability, label) < 0.015
    assert calibration_error(probability**3 / (probability**3).sum(axis=1, keepdims=True), label) > 0.1


@pytest.mark.parametrize("probability", [[[0.5, np.nan]], [[-0.1, 1.1]], [0.5, 0.5]])
def test_what_is_no_probability_is_refused(probability: list[object]) -> None:
    with pytest.raises(ValueError, match="probability: expected"):
        calibration_error(np.array(probability), np.array([0]))


def test_a_label_without_a_column_is_refused() -> None:
    with pytest.raises(ValueError, match="label: 2 found, expected below 2"):
        calibration_error(np.array([[0.5, 0.5]]), np.array([2]))


def test_a_prediction_below_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction: -2 found, expected at least -1"):
        accuracy(np.array([-2, 0]), np.array([0, 0]))
