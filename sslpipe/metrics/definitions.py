"""The metrics that need labels, one function each, named as the metric in `table.METRICS`.

Each returns the metric of a model, at most 1, or None if the metric is not defined for this model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.metrics import classification, clustering


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for N images, of which at least one has a known label."""

    output: NDArray[np.int64]
    """[N] cluster of each image, or its class if the model is a classifier."""
    label: NDArray[np.int64]
    """[N] class of each image, UNKNOWN (-1) if it is not known."""
    outputs: int
    """Number of clusters, or of classes if the model is a classifier."""
    classes: int
    is_classifier: bool
    probability: NDArray[Any] | None = None
    """[N, outputs]; None if the model predicts only clusters."""
    permutations: Sequence[dict[str, float]] = ()
    """Accuracies of label permutations, as returned by `permutation_accuracies`."""

    @cached_property
    def best_mapping(self) -> tuple[float, NDArray[np.int64]]:
        """Result of `cluster_accuracy`: the accuracy and the mapping [outputs]."""
        return clustering.cluster_accuracy(self.output, self.label, n_clusters=self.outputs, n_classes=self.classes)

    @property
    def mapping(self) -> NDArray[np.int64]:
        """Class of each output, [outputs]: the identity for a classifier, else the best one-to-one mapping."""
        return np.arange(self.outputs) if self.is_classifier else self.best_mapping[1]


def acc(model: Predictions) -> float | None:
    """Accuracy of a classifier."""
    return classification.accuracy(model.output, model.label) if model.is_classifier else None


def cluster_acc(model: Predictions) -> float | None:
    """Accuracy under the best one-to-one mapping of outputs to classes."""
    return model.best_mapping[0]


def gap(model: Predictions) -> float | None:
    """Difference of cluster_acc and acc, at least 0: what a wrong mapping of good clusters to classes costs
    ("Boosting SSL", Lerner et al. 2020, arXiv:2012.00504, section 4.2, eq. 7 and figure 4).
    """
    own = acc(model)
    return None if own is None else model.best_mapping[0] - own


def nmi(model: Predictions) -> float | None:
    """Normalised mutual information."""
    return clustering.nmi(model.output, model.label)


def ari(model: Predictions) -> float | None:
    """Adjusted Rand index; negative if lower than expected at chance."""
    return clustering.ari(model.output, model.label)


def top5_acc(model: Predictions) -> float | None:
    """Top-5 accuracy, for more than 5 outputs with probabilities."""
    if model.probability is None or model.outputs <= 5:
        return None
    return clustering.top_k_accuracy(model.probability, model.label, model.mapping, 5)


def ece(model: Predictions) -> float | None:
    """Expected calibration error of a classifier."""
    if model.probability is None or not model.is_classifier:
        return None
    return classification.calibration_error(model.probability, model.label)


def many_to_one_acc(model: Predictions) -> float | None:
    """Accuracy of clusters if each is mapped to its most frequent class."""
    if model.is_classifier:
        return None
    return clustering.many_to_one_accuracy(
        model.output, model.label, n_clusters=model.outputs, n_classes=model.classes
    )[0]


def best_of_1_acc(model: Predictions) -> float | None:
    """Accuracy under the most likely label permutation."""
    return _best_of(model, 1)


def best_of_10_acc(model: Predictions) -> float | None:
    """Best accuracy among the 10 most likely label permutations."""
    return _best_of(model, 10)


def best_of_100_acc(model: Predictions) -> float | None:
    """Best accuracy among the 100 most likely label permutations."""
    return _best_of(model, 100)


def _best_of(model: Predictions, k: int) -> float | None:
    """Return the best accuracy among the first k permutations, or among all if there are fewer.

    None if fewer than k were evaluated, and not because there are no others.
    """
    count = len(model.permutations)
    if not count or (count < k and count < factorial(model.outputs)):
        return None
    return model.permutations[:k][-1]["best"]
