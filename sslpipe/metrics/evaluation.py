"""All figures of one model, a grouping of images or a classifier, and the files that hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN
from sslpipe.io.files import write_csv, write_json
from sslpipe.metrics.classification import accuracy, calibration_error
from sslpipe.metrics.clustering import (
    ari,
    cluster_accuracy,
    cluster_sizes,
    clustering_metrics,
    many_to_one_accuracy,
    nmi,
    per_class,
    top_k_accuracy,
)
from sslpipe.metrics.mappings import UNMAPPED
from sslpipe.metrics.permutations import permutation_accuracies

NAMINGS = (1, 10, 100)
"""How many permutations of the class names are tried for best_of_<k>_acc: the paper found the best of all among the
first 100 with 20 and 30 labels ("Boosting SSL by clustering", section 4.2)."""


@dataclass(frozen=True)
class Evaluation:
    """What is known of one model."""

    metrics: dict[str, float]
    """Name → value; fractions, not percent."""
    sizes: NDArray[np.int64]
    """[clusters] images in each."""
    mapping: NDArray[np.int64]
    """[clusters] class of each, UNMAPPED (-1) for none; all are in a grouping where no label is known."""
    confusion: list[dict[str, str]] = field(default_factory=list)
    """One row an image with a known label: actual and predicted class."""
    classes: list[dict[str, Any]] = field(default_factory=list)
    """One row a class."""
    permutations: list[dict[str, float]] = field(default_factory=list)
    """One row a permutation of the class names, as from `permutation_accuracies`."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What else its row states: labels (number of labelled images it used), start (what it started from)."""


def evaluate_clusters(
    prediction: NDArray[Any], label: NDArray[np.int64], classes: Sequence[str], *, clusters: int
) -> Evaluation:
    """Metrics of a clustering against the labels that are known, and those that need no label.

    prediction: [N, clusters] probabilities, or [N] cluster indices, which have no confidence and no top-5.
    label: [N], UNKNOWN (-1) where there is none. classes: names in the order of labels.
    """
    soft = prediction.ndim == 2
    cluster = prediction.argmax(axis=1) if soft else prediction
    metrics = clustering_metrics(prediction if soft else np.eye(clusters, dtype=np.float32)[cluster])
    if not soft:
        del metrics["mean_confidence"]
    sizes = cluster_sizes(cluster, clusters)
    if (label == UNKNOWN).all():
        return Evaluation(metrics, sizes, np.full(clusters, UNMAPPED))
    count = len(classes)
    best, mapping = cluster_accuracy(cluster, label, n_clusters=clusters, n_classes=count)
    many_to_one, _ = many_to_one_accuracy(cluster, label, n_clusters=clusters, n_classes=count)
    scores = {"cluster_acc": best, "nmi": nmi(cluster, label), "ari": ari(cluster, label)}
    if soft and clusters > 5:
        scores["top5_acc"] = top_k_accuracy(prediction, label, mapping, 5)
    return Evaluation(
        metrics={**scores, "many_to_one_acc": many_to_one, **metrics},
        sizes=sizes,
        mapping=mapping,
        confusion=_confusion_rows(mapping[cluster], label, classes),
        classes=_class_rows(mapping[cluster], label, classes),
    )


def evaluate_classifier(
    probability: NDArray[Any],
    label: NDArray[np.int64],
    classes: Sequence[str],
    *,
    votes: NDArray[Any] | None = None,
) -> Evaluation:
    """Figures of a model that knows the classes: its own naming, and what the best one would give.

    probability: [N, classes]; label: [N], UNKNOWN (-1) where there is none; classes: names in the order of both.
    votes: [classes, classes] as in `permutation_accuracies`, for the figures best_of_<k>_acc; costly above some
    hundred classes.
    `gap` is cluster_acc - acc, at least 0: what the naming of well separated groups costs ("Boosting SSL by
    clustering", section 4.2, eq. 7 and figure 4). Raises ValueError for other shapes and values.
    """
    count = len(classes)
    if probability.shape != (len(label), count):
        raise ValueError(f"probability: shape {probability.shape} found, expected {(len(label), count)}")
    metrics = clustering_metrics(probability)
    prediction, own = probability.argmax(axis=1), np.arange(count)
    sizes = cluster_sizes(prediction, count)
    if (label == UNKNOWN).all():
        return Evaluation(metrics, sizes, own)
    acc = accuracy(prediction, label)
    best, _ = cluster_accuracy(prediction, label, n_clusters=count, n_classes=count)
    scores = {"acc": acc, "cluster_acc": best, "gap": best - acc}
    scores |= {"nmi": nmi(prediction, label), "ari": ari(prediction, label)}
    if count > 5:
        scores["top5_acc"] = top_k_accuracy(probability, label, own, 5)
    scores["ece"] = calibration_error(probability, label)
    permutations = [] if votes is None else permutation_accuracies(votes, prediction, label, k=max(NAMINGS))
    if permutations:
        scores |= {f"best_of_{k}_acc": permutations[:k][-1]["best"] for k in NAMINGS}
    return Evaluation(
        metrics={**scores, **metrics},
        sizes=sizes,
        mapping=own,
        confusion=_confusion_rows(prediction, label, classes),
        classes=_class_rows(prediction, label, classes),
        permutations=permutations,
    )


def _confusion_rows(
    mapped: NDArray[np.int64], label: NDArray[np.int64], classes: Sequence[str]
) -> list[dict[str, str]]:
    named = [*classes, "(no class)"]  # the last one is that of UNMAPPED, -1
    known = label != UNKNOWN
    return [{"actual": named[a], "predicted": named[p]} for a, p in zip(label[known], mapped[known], strict=True)]


def _class_rows(mapped: NDArray[np.int64], label: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name, row in zip(classes, per_class(mapped, label, len(classes)), strict=True):
        rows.append(
            {
                "class": name,
                "images": row.count,
                "accuracy": row.accuracy,
                "most_confused_with": "" if row.confused_with is None else classes[row.confused_with],
                "confused": row.confused_count,
            }
        )
    return rows


def write_evaluations(
    folder: Path, evaluations: Mapping[str, Evaluation], classes: Sequence[str], metadata: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """metrics.json and table.csv with a row a model, and a folder a model with its clusters as CSV and, as far as they
    are known, its confusion, classes and permutations.

    evaluations: model, such as "cluster" or "semisup.fixmatch" → evaluation. metadata: what every row also states
    (protocol, seed, images scored); an evaluation's own come after them. Returns the content of metrics.json.
    """
    metrics = {
        name: {**evaluation.metrics, **metadata, **evaluation.metadata} for name, evaluation in evaluations.items()
    }
    write_json(folder / "metrics.json", metrics)
    write_csv(folder / "table.csv", [{"model": name, **row} for name, row in metrics.items()])
    for name, evaluation in evaluations.items():
        (folder / name).mkdir()
        clusters = [
            {"cluster": i, "images": int(size), "class": "" if to == UNMAPPED else classes[to]}
            for i, (size, to) in enumerate(zip(evaluation.sizes, evaluation.mapping, strict=True))
        ]
        write_csv(folder / name / "clusters.csv", clusters)
        for table in ("confusion", "classes", "permutations"):
            if rows := getattr(evaluation, table):
                write_csv(folder / name / f"{table}.csv", rows)
    return metrics
