"""Metrics of predicted classes; images with an unknown label (-1) are left out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.metrics.labels import indices, known_only, probabilities, span


def accuracy(prediction: NDArray[Any], label: NDArray[Any]) -> float:
    """Return the share of images whose predicted class is their label.

    prediction, label: [N]; a prediction of -1 is wrong.
    """
    label, prediction = known_only(label, indices("prediction", prediction, least=-1))
    return float((prediction == label).mean())


def calibration_error(probability: NDArray[Any], label: NDArray[Any], *, bins: int = 15) -> float:
    """Return the expected calibration error, from 0 to 1 (Guo et al. 2017, arXiv:1706.04599, eq. 3).

    probability: [N, classes]. label: [N]. bins: number of bins of equal width over the confidence, each including its
    upper edge; 15 as in the paper.
    """
    label, probability = known_only(label, probabilities(probability))
    span("label", label, probability.shape[1])
    confidence = probability.max(axis=1).astype(np.float64)
    correct = probability.argmax(axis=1) == label
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    # |B|/n · |acc(B) - conf(B)| = |Σ over B of (correct - confidence)| / n
    gaps = np.bincount(place, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(label))
