"""Metrics of clusters, with and without labels.

A mapping is an array [clusters] of the class that each cluster is mapped to, or UNMAPPED.
Images with an unknown label (-1) are left out of the metrics that use labels. Wrong shapes and values raise ValueError.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from sslpipe.metrics.labels import indices, known_only, probabilities, span
from sslpipe.metrics.mappings import UNMAPPED

ROWS = 1024
"""Images whose probabilities are compared at a time (own choice)."""


def contingency(
    prediction: NDArray[Any], label: NDArray[Any], *, n_clusters: int | None = None, n_classes: int | None = None
) -> NDArray[np.int64]:
    """Return the number of images of each cluster and class, [clusters, classes].

    prediction, label: [N]. n_clusters, n_classes: None for the highest index plus one.
    """
    # Counted before unknown labels are removed, so that a cluster with only unknown labels has a row.
    clusters = span("prediction", indices("prediction", prediction), n_clusters)
    label, prediction = known_only(label, prediction)
    classes = span("label", label, n_classes)
    pairs = prediction.astype(np.int64) * classes + label
    return np.bincount(pairs, minlength=clusters * classes).reshape(clusters, classes)


def cluster_accuracy(
    prediction: NDArray[Any], label: NDArray[Any], *, n_clusters: int | None = None, n_classes: int | None = None
) -> tuple[float, NDArray[np.int64]]:
    """Return the accuracy of clusters under the best one-to-one mapping to classes, and the mapping.

    This is the ACC of SCAN (Van Gansbeke et al. 2020, arXiv:2005.12320), from 0 to 1. The mapping, [clusters], is
    fitted to the labels by the Hungarian method, so the accuracy at chance is above 1 / classes.
    prediction, label: [N]. n_clusters, n_classes: as in `contingency`. With more clusters than classes, some clusters
    are UNMAPPED.
    """
    counts = contingency(prediction, label, n_clusters=n_clusters, n_classes=n_classes)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    mapping = np.full(len(counts), UNMAPPED, dtype=np.int64)
    mapping[rows] = columns
    return float(counts[rows, columns].sum() / counts.sum()), mapping


def many_to_one_accuracy(
    prediction: NDArray[Any], label: NDArray[Any], *, n_clusters: int | None = None, n_classes: int | None = None
) -> tuple[float, NDArray[np.int64]]:
    """Return the accuracy if each cluster is mapped to its most frequent class, and the mapping (SCAN, section 3.5).

    The accuracy, from 0 to 1, increases with the number of clusters: with one cluster per image it is 1.
    prediction, label: [N]. n_clusters, n_classes: as in `contingency`. Among equal counts the lowest class is taken; a
    cluster without known labels is UNMAPPED.
    """
    counts = contingency(prediction, label, n_clusters=n_clusters, n_classes=n_classes)
    mapping = np.where(counts.any(axis=1), counts.argmax(axis=1), UNMAPPED)
    return float(counts.max(axis=1).sum() / counts.sum()), mapping


def nmi(prediction: NDArray[Any], label: NDArray[Any]) -> float:
    """Return the normalised mutual information, I / ((H(prediction) + H(label)) / 2), as in SCAN; from 0 to 1."""
    label, prediction = known_only(label, indices("prediction", prediction))
    return float(normalized_mutual_info_score(label, prediction, average_method="arithmetic"))


def ari(prediction: NDArray[Any], label: NDArray[Any]) -> float:
    """Return the adjusted Rand index (Hubert and Arabie 1985): 0 expected at chance, 1 if clusters equal classes."""
    label, prediction = known_only(label, indices("prediction", prediction))
    return float(adjusted_rand_score(label, prediction))


def top_k_accuracy(probability: NDArray[Any], label: NDArray[Any], mapping: NDArray[Any], k: int) -> float:
    """Return the share of images whose class is that of one of their k most probable clusters.

    probability: [N, clusters]. label: [N]. mapping: [clusters]. All clusters count if there are fewer than k. UNMAPPED
    clusters are among the k, so that k = 1 gives the accuracy of the most probable cluster.
    """
    label, probability = known_only(label, probabilities(probability))
    mapping = indices("mapping", mapping, least=UNMAPPED)
    if len(mapping) != probability.shape[1]:
        raise ValueError(f"mapping: {len(mapping)} clusters found, expected {probability.shape[1]}")
    if k < 1:
        raise ValueError(f"k: {k} found, expected at least 1")
    found = 0
    for start in range(0, len(label), ROWS):
        few, own = probability[start : start + ROWS], mapping == label[start : start + ROWS, None]
        # The first one of the class's own clusters, in the order of their probabilities, and then of their numbers.
        place = np.where(own, few, -1).argmax(axis=1)[:, None]
        likely = np.take_along_axis(few, place, axis=1)
        before = (few > likely).sum(axis=1) + ((few == likely) & (np.arange(len(mapping)) < place)).sum(axis=1)
        found += int((own.any(axis=1) & (before < k)).sum())
    return found / len(label)


def confusion(prediction_mapped: NDArray[Any], label: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix, [classes, classes + 1]: the number of images of each class and prediction.

    A row is a class and a column a predicted class; the last column counts images in UNMAPPED clusters.
    prediction_mapped: [N] predicted classes or UNMAPPED, such as mapping[prediction]. label: [N].
    """
    label, column = _class_and_column(prediction_mapped, label, n_classes)
    width = n_classes + 1
    return np.bincount(label * width + column, minlength=n_classes * width).reshape(n_classes, width)


def _class_and_column(
    prediction_mapped: NDArray[Any], label: NDArray[Any], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the class of each image with a known label, and its column of the confusion matrix."""
    label, prediction = known_only(label, indices("prediction", prediction_mapped, least=UNMAPPED))
    span("label", label, n_classes)
    span("prediction", prediction, n_classes)
    return label, np.where(prediction == UNMAPPED, n_classes, prediction)


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class."""

    count: int
    """Number of images of the class."""
    accuracy: float | None
    """Share of these that is predicted as this class; None without images."""
    confused_with: int | None
    """Most frequent wrong prediction (the lowest class among equals); None without a wrong prediction of a class."""
    confused_count: int
    """Number of images with that prediction."""


def per_class(prediction_mapped: NDArray[Any], label: NDArray[Any], n_classes: int) -> list[ClassMetrics]:
    """Return the metrics of each class, in the order of classes; the arguments are those of `confusion`."""
    label, column = _class_and_column(prediction_mapped, label, n_classes)
    count = np.bincount(label, minlength=n_classes)
    right = np.bincount(label[label == column], minlength=n_classes)
    # Each pair that occurs, not each that may: those of one class follow each other, the most frequent one first.
    wrong = (label != column) & (column < n_classes)
    pairs, times = np.unique(label[wrong] * n_classes + column[wrong], return_counts=True)
    order = np.lexsort((pairs, -times, pairs // n_classes))
    own, first = np.unique(pairs[order] // n_classes, return_index=True)
    most = {int(each): order[place] for each, place in zip(own, first, strict=True)}
    return [
        ClassMetrics(
            count=int(count[each]),
            accuracy=float(right[each] / count[each]) if count[each] else None,
            confused_with=int(pairs[most[each]] % n_classes) if each in most else None,
            confused_count=int(times[most[each]]) if each in most else 0,
        )
        for each in range(n_classes)
    ]


def cluster_sizes(prediction: NDArray[Any], n_clusters: int) -> NDArray[np.int64]:
    """Return the number of images in each cluster, [clusters], with known and unknown labels. prediction: [N]."""
    prediction = indices("prediction", prediction)
    return np.bincount(prediction, minlength=span("prediction", prediction, n_clusters))


def size_entropy(sizes: NDArray[Any]) -> float:
    """Return the entropy of the cluster sizes, divided by its maximum, ln(clusters).

    1 if all clusters have the same size, 0 if all images are in one of several clusters; 1 for a single cluster.
    sizes: [clusters].
    """
    sizes = indices("sizes", sizes)
    if not sizes.sum():
        raise ValueError("sizes: no image found")
    if len(sizes) == 1:
        return 1.0
    share = sizes[sizes > 0] / sizes.sum()
    return abs(float(-(share * np.log(share)).sum() / np.log(len(sizes))))


def clustering_metrics(probability: NDArray[Any]) -> dict[str, float]:
    """Return the metrics that need no labels; an image belongs to its most probable cluster.

    probability: [N, clusters]. "clusters_used": number of clusters that are not empty. "largest_share": share of images
    in the largest cluster. "mean_confidence": mean of the highest probability. "size_entropy": see `size_entropy`.
    """
    probability = probabilities(probability)
    found = size_metrics(cluster_sizes(probability.argmax(axis=1), probability.shape[1]))
    entropy = found.pop("size_entropy")
    mean_confidence = float(probability.max(axis=1).mean(dtype=np.float64))
    return {**found, "mean_confidence": mean_confidence, "size_entropy": entropy}


def size_metrics(sizes: NDArray[np.int64]) -> dict[str, float]:
    """Return those of `clustering_metrics` that follow from the number of images in each cluster, [clusters]."""
    return {
        "clusters_used": int((sizes > 0).sum()),
        "largest_share": float(sizes.max() / sizes.sum()),
        "size_entropy": size_entropy(sizes),
    }
