"""Accuracy of the k most likely label permutations (Murty's algorithm)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.metrics.clustering import contingency
from sslpipe.metrics.mappings import k_best_mappings


def permutation_accuracies(
    votes: NDArray[Any], prediction: NDArray[Any], label: NDArray[Any], *, k: int
) -> list[dict[str, float]]:
    """Return the accuracy under each of the k label permutations with the highest sum of votes.

    This is figure 6 of "Boosting SSL" (Lerner et al. 2020, arXiv:2012.00504, section 4.2), which ranks permutations by
    Murty's algorithm on the predictions for rotated labelled images.
    votes: [outputs, classes], square and finite: the probability of each output, summed over the labelled images of
    each class in four rotations. They are rotated because the model fits the labelled images almost perfectly.
    prediction: [N] outputs. label: [N], -1 if it is not known.
    Returns one row per permutation, highest sum first, fewer than k if there are fewer: "rank" from 1, "score" (sum of
    votes), "accuracy" on the images with a known label, and "best", the highest accuracy up to this rank, which the
    paper calls top-k accuracy. The best of all permutations is the cluster accuracy. The time is O(k · classes²), and
    more for votes that hardly differ: for the 100 best 4 s at 1,000 classes and 20 s at 2,000 (one CPU core).
    Raises ValueError for other shapes and values, or if no label is known.
    """
    votes = np.asarray(votes)
    if votes.ndim != 2 or votes.shape[0] != votes.shape[1]:
        raise ValueError(f"votes: shape {votes.shape} found, expected [classes, classes]")
    outputs = len(votes)
    counts = contingency(prediction, label, n_clusters=outputs, n_classes=outputs)
    rows: list[dict[str, float]] = []
    best = 0.0
    for rank, (score, mapping) in enumerate(k_best_mappings(votes, k), start=1):
        accuracy = float(counts[np.arange(outputs), mapping].sum() / counts.sum())
        best = max(best, accuracy)
        rows.append({"rank": rank, "score": score, "accuracy": accuracy, "best": best})
    return rows
