"""The groups of a model, with the images that show what they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.metrics.clustering import cluster_accuracy, contingency
from sslpipe.metrics.mappings import UNMAPPED
from sslpipe.reporting.encoding import byte_of, encoded, rounded
from sslpipe.reporting.group_order import group_links, group_order
from sslpipe.reporting.neighbors import Similar
from sslpipe.reporting.predictions import Prediction
from sslpipe.reporting.shown_images import ShownImages

MOST = 24
"""Most images in a list of a group (own choice: a screen's width of two rows)."""
MIXED = 3
"""Most classes that are named of a group (own choice: a line of a card)."""
ROWS = 4096
"""Images whose probabilities are compared at a time."""


def first_two(probability: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
    """Return the most probable group, its probability, the second one and its probability, [N] each.

    probability: [N, K]. Among equal ones the lowest group is first. With one group, the second is the first and its
    probability is 0.
    """
    group = probability.argmax(axis=1).astype(np.int64)
    confidence = np.take_along_axis(probability, group[:, None], axis=1)[:, 0]
    if probability.shape[1] == 1:
        return group, confidence, group.copy(), np.zeros_like(confidence)
    second = np.empty_like(group)
    for start in range(0, len(probability), ROWS):
        rows = probability[start : start + ROWS].copy()
        np.put_along_axis(rows, group[start : start + ROWS, None], -1, axis=1)
        second[start : start + ROWS] = rows.argmax(axis=1)
    return group, confidence, second, np.take_along_axis(probability, second[:, None], axis=1)[:, 0]


def group_mapping(prediction: Prediction, group: NDArray[np.int64], images: ShownImages) -> NDArray[np.int64]:
    """Return the class of each group, [K], UNMAPPED (-1) for none.

    It is a classifier's own, else the best one-to-one mapping for the known labels of the images that evaluate scores,
    as in its table; if none of these has a label, for all known labels.
    """
    count = prediction.probability.shape[1]
    if prediction.is_classifier:
        return np.arange(count)
    known = images.known & images.scored
    known = known if known.any() else images.known
    if not known.any():
        return np.full(count, UNMAPPED)
    return cluster_accuracy(group[known], images.label[known], n_clusters=count, n_classes=len(images.store.classes))[1]


def group_names(mapping: NDArray[np.int64], classes: Sequence[str]) -> list[str | None]:
    """Return the name of each group's class; None for a group without one."""
    return [None if each == UNMAPPED else classes[each] for each in mapping.tolist()]


def group_part(
    prediction: Prediction, images: ShownImages, similar: Similar, names: Sequence[str | None], most: int = MOST
) -> dict[str, Any]:
    """Return the part model-<i> of the report without its scores. names: of the groups; most: images in a list."""
    probability = prediction.probability
    group, confidence, second, next_probability = first_two(probability)
    size = np.bincount(group, minlength=probability.shape[1])
    centrality = _centrality(group, size, similar.vectors)
    margin = confidence - next_probability
    shown_confidence = byte_of(confidence)
    prototypes = _firsts(group, size, most, -centrality, -shown_confidence.astype(np.int64))
    least = _firsts(group, size, most, confidence)
    between = _firsts(group, size, most, margin)
    known, mix = _mixes(group, images, names)
    groups = [
        {
            "id": each,
            "name": names[each],
            "size": int(size[each]),
            "share": rounded(size[each] / len(images)),
            "known": known[each],
            "mix": mix[each],
            "purity": mix[each][0][1] if mix[each] else None,
            "prototypes": prototypes[each],
            "least": least[each],
            "between": [[image, int(second[image])] for image in between[each]] if len(size) > 1 else [],
            **_parts(prediction, each),
        }
        for each in range(len(size))
    ]
    return {
        "name": prediction.name,
        "group": encoded(group, "u2"),
        "confidence": encoded(shown_confidence, "u1"),
        "second": encoded(second, "u2"),
        "margin": encoded(byte_of(margin), "u1"),
        "groups": groups,
        "order": group_order(group_links(group, probability, similar.index), size),
    }


def _parts(prediction: Prediction, group: int) -> dict[str, Any]:
    """Return the entry of a merged group with the model's own clusters in it, [number, images], the largest first."""
    if prediction.merged is None or prediction.own_sizes is None:
        return {}
    sizes = prediction.own_sizes.tolist()
    parts = [[own, sizes[own]] for own, to in enumerate(prediction.merged) if to == group]
    return {"parts": sorted(parts, key=lambda part: -part[1])}


def _centrality(group: NDArray[np.int64], size: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inner product of each image's vector with the mean of its group's, [N]."""
    centre = np.zeros((len(size), vectors.shape[1]), np.float32)
    order = np.argsort(group, kind="stable")
    stops = np.cumsum(size)
    for each in np.flatnonzero(size).tolist():
        centre[each] = vectors[order[stops[each] - size[each] : stops[each]]].mean(axis=0)
    result: NDArray[np.float32] = np.einsum("nd,nd->n", vectors, centre[group])
    return result


def _firsts(group: NDArray[np.int64], size: NDArray[np.int64], most: int, *keys: NDArray[Any]) -> list[list[int]]:
    """Return the first images of each group by ascending keys, of which the last one counts first, then by index."""
    order = np.lexsort((*keys, group))
    stops = np.cumsum(size)
    return [
        order[stop - count : stop - count + min(count, most)].tolist() for stop, count in zip(stops, size, strict=True)
    ]


def _mixes(
    group: NDArray[np.int64], images: ShownImages, names: Sequence[str | None]
) -> tuple[list[int], list[list[list[float]]]]:
    """Return of each group the number of its images with a known label, and their most frequent classes.

    The classes are [class id, share of these images], at most MIXED, the most frequent first. Among equally frequent
    ones the class that the group is named by is first, then the lowest id.
    """
    classes = images.store.classes
    if not images.known.any():
        return [0] * len(names), [[] for _ in names]
    counts = contingency(group, images.label, n_clusters=len(names), n_classes=len(classes))
    mixes = []
    for row, name in zip(counts, names, strict=True):
        named = np.array([each == name for each in classes])
        order = np.lexsort((~named, -row))[:MIXED]
        mixes.append([[each, rounded(row[each] / row.sum())] for each in order.tolist() if row[each]])
    return counts.sum(axis=1).tolist(), mixes
