"""How well clusters agree with classes, and what can be said of clusters without labels.

A mapping is an array [clusters]: the class that each cluster stands for, or UNMAPPED.
Images with an unknown label (-1) are left out of every score. Wrong shapes and values raise ValueError.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from sslpipe.metrics.labels import indices, known_only, probabilities, span
from sslpipe.metrics.mappings import UNMAPPED


def contingency(
    prediction: NDArray[Any], label: NDArray[Any], *, n_clusters: int | None = None, n_classes: int | None = None
) -> NDArray[np.int64]:
    """[clusters, classes] counts of images; without the two numbers, as many as the highest index needs."""
    # Counted before unknown labels go, so that a cluster that holds only those keeps its place.
    clusters = span("prediction", indices("prediction", prediction), n_clusters)
    label, prediction = known_only(label, prediction)
    classes = span("label", label, n_classes)
    pairs = prediction.astype(np.int64) * classes + label
    return np.bincount(pairs, minlength=clusters * classes).reshape(clusters, classes)


def cluster_accuracy(
    prediction: NDArray[Any], label: NDArray[Any], *, n_clusters: int | None = None, n_classes: int | None = None
) -> tuple[float, NDArray[np.int64]]:
    """Share of images in a cluster of their own class, under the best one-to-one mapping (SCAN's ACC).

    prediction, label: [N]. n_clusters, n_classes: keep a place for empty ones. With more clusters than classes some
    clusters are UNMAPPED. Returns (accuracy in [0, 1], mapping [clusters]). The mapping is fitted to these labels, so
    chance lies above 1 / classes.
    """
    counts = contingency(prediction, label, n_clusters=n_clusters, n_classes=n_classes)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    mapping = np.full(len(counts), UNMAPPED, dtype=np.int64)
    mapping[rows] = columns
    return float(counts[rows, columns].sum() / counts.sum()), mapping


def many_to_one_accuracy(
    prediction: NDArray[Any], label: NDArray[Any], *, n_clusters: int | None = None, n_classes: int | None = None
) -> tuple[float, NDArray[np.int64]]:
    """Share of images of their cluster's majority class (SCAN, section 3.5: over-clustering).

    prediction, label: [N]. Equal counts go to the lower class; a cluster without known labels is UNMAPPED.
    Returns (accuracy in [0, 1], mapping [clusters]). It grows with the number of clusters: N clusters reach 1.
    """
    counts = contingency(prediction, label, n_clusters=n_clusters, n_classes=n_classes)
    mapping = np.where(counts.any(axis=1), counts.argmax(axis=1), UNMAPPED)
    return float(counts.max(axis=1).sum() / counts.sum()), mapping


def nmi(prediction: NDArray[Any], label: NDArray[Any]) -> float:
    """Normalised mutual information, I / ((H(prediction) + H(label)) / 2): the arithmetic mean, as SCAN reports it."""
    label, prediction = known_only(label, indices("prediction", prediction))
    return float(normalized_mutual_info_score(label, prediction, average_method="arithmetic"))


def ari(prediction: NDArray[Any], label: NDArray[Any]) -> float:
    """Rand index adjusted for chance (Hubert and Arabie 1985): 0 expected for random clusters, 1 for equal ones."""
    label, prediction = known_only(label, indices("prediction", prediction))
    return float(adjusted_rand_score(label, prediction))


def top_k_accuracy(probability: NDArray[Any], label: NDArray[Any], mapping: NDArray[Any], k: int) -> float:
    """Share of images whose class is that of one of their k most probable clusters.

    probability: [N, clusters]. mapping: [clusters]. k above the number of clusters means all of them. An UNMAPPED
    cluster takes its place among the k, so that k = 1 equals the accuracy of the most probable cluster.
    """
    label, probability = known_only(label, probabilities(probability))
    mapping = indices("mapping", mapping, least=UNMAPPED)
    if len(mapping) != probability.shape[1]:
        raise ValueError(f"mapping: {len(mapping)} clusters found, expected {probability.shape[1]}")
    if k < 1:
        raise ValueError(f"k: {k} found, expected at least 1")
    likeliest = np.argsort(-probability, axis=1, kind="stable")[:, :k]
    return float((mapping[likeliest] == label[:, None]).any(axis=1).mean())


def confusion(prediction_mapped: NDArray[Any], label: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """[classes, classes + 1] counts: row = class, column = predicted class; last column = images in UNMAPPED clusters.

    prediction_mapped: [N] classes, or UNMAPPED: mapping[prediction].
    """
    label, prediction = known_only(label, indices("prediction", prediction_mapped, least=UNMAPPED))
    span("label", label, n_classes)
    span("prediction", prediction, n_classes)
    columns = np.where(prediction == UNMAPPED, n_classes, prediction)
    width = n_classes + 1
    return np.bincount(label * width + columns, minlength=n_classes * width).reshape(n_classes, width)


@dataclass(frozen=True)
class ClassFigures:
    """One class in the table of classes."""

    count: int
    """Images of the class."""
    accuracy: float | None
    """Share of them that is predicted so; None without images."""
    confused_with: int | None
    """The other class that most of them are taken for (the lowest of equals); None where no image is."""
    confused_count: int
    """Images taken for that class."""


def per_class(prediction_mapped: NDArray[Any], label: NDArray[Any], n_classes: int) -> list[ClassFigures]:
    """Figures of each class, in the order of classes; arguments as in `confusion`."""
    table = []
    for own, row in enumerate(confusion(prediction_mapped, label, n_classes)):
        count = int(row.sum())
        others = row[:n_classes].copy()
        others[own] = 0
        other = int(others.argmax())
        confused = int(others[other])
        table.append(
            ClassFigures(
                count=count,
                accuracy=float(row[own] / count) if count else None,
                confused_with=other if confused else None,
                confused_count=confused,
            )
        )
    return table


def cluster_sizes(prediction: NDArray[Any], n_clusters: int) -> NDArray[np.int64]:
    """[clusters] number of images in each cluster, whether or not their label is known."""
    prediction = indices("prediction", prediction)
    return np.bincount(prediction, minlength=span("prediction", prediction, n_clusters))


def size_entropy(sizes: NDArray[Any]) -> float:
    """Entropy of the clusters' sizes over its highest value, ln(clusters): 1 = all equal, 0 = all images in one.

    sizes: [clusters]. 1 for a single cluster.
    """
    sizes = indices("sizes", sizes)
    if not sizes.sum():
        raise ValueError("sizes: no image found")
    if len(sizes) == 1:
        return 1.0
    share = sizes[sizes > 0] / sizes.sum()
    return abs(float(-(share * np.log(share)).sum() / np.log(len(sizes))))


def grouping_figures(probability: NDArray[Any]) -> dict[str, float]:
    """What can be said of clusters without any label; an image belongs to its most probable cluster.

    probability: [N, clusters]. Returns "clusters_used" (not empty), "largest_share" (images in the largest, of all),
    "mean_confidence" (mean highest probability) and "size_entropy".
    """
    probability = probabilities(probability)
    sizes = cluster_sizes(probability.argmax(axis=1), probability.shape[1])
    return {
        "clusters_used": int((sizes > 0).sum()),
        "largest_share": float(sizes.max() / sizes.sum()),
        "mean_confidence": float(probability.max(axis=1).mean()),
        "size_entropy": size_entropy(sizes),
    }
