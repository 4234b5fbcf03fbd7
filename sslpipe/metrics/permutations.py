"""How soon the right naming of a classifier's outputs is found among those that a few labelled images speak for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.metrics.clustering import contingency
from sslpipe.metrics.mappings import k_best_mappings


def permutation_accuracies(
    votes: NDArray[Any], prediction: NDArray[Any], label: NDArray[Any], *, k: int
) -> list[dict[str, float]]:
    """The accuracy under each of the k permutations of class names with the most votes ("Boosting SSL by clustering",
    section 4.2 and figure 6: Murty's k best on the predictions for the rotated labelled images).

    votes: [outputs, classes], as many of both, finite: the probability of each output summed over the labelled images
    of each class in four orientations. They are rotated since the model fits the images themselves almost perfectly.
    prediction: [N] outputs; label: [N], -1 where it is not known.
    Returns a row a permutation, best score first, fewer than k where there are fewer: "rank" from 1, "score" (summed
    votes), "accuracy" on the images with a known label, "best" (the highest accuracy up to this rank: the figure's
    top-k accuracy). The best of all permutations is the cluster accuracy. Takes about k · classes⁴ operations.
    Raises ValueError for other shapes and values, or without a known label.
    """
    votes = np.asarray(votes)
    if votes.ndim != 2 or votes.shape[0] != votes.shape[1]:
        raise ValueError(f"votes: shape {votes.shape} found, expected [outputs, classes] with as many of both")
    outputs = len(votes)
    counts = contingency(prediction, label, n_clusters=outputs, n_classes=outputs)
    rows: list[dict[str, float]] = []
    best = 0.0
    for rank, (score, mapping) in enumerate(k_best_mappings(votes, k), start=1):
        accuracy = float(counts[np.arange(outputs), mapping].sum() / counts.sum())
        best = max(best, accuracy)
        rows.append({"rank": rank, "score": score, "accuracy": accuracy, "best": best})
    return rows
