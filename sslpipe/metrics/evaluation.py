"""Evaluation of a model that predicts clusters or classes, and the files with its metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN
from sslpipe.io.files import write_csv, write_json
from sslpipe.io.settings import Count, CountOrZero, TwoOrMore
from sslpipe.metrics import definitions
from sslpipe.metrics.clustering import cluster_sizes, clustering_metrics, per_class, size_metrics
from sslpipe.metrics.definitions import Predictions
from sslpipe.metrics.kmeans import KMeansSettings
from sslpipe.metrics.mappings import UNMAPPED
from sslpipe.metrics.permutations import permutation_accuracies
from sslpipe.metrics.scored_models import DIGITS, MODEL_DIGEST
from sslpipe.metrics.table import METRICS

PERMUTATIONS = 100
"""Number of label permutations that are evaluated: with 20 and 30 labels, the best of all was among the first 100
("Boosting SSL", Lerner et al. 2020, arXiv:2012.00504, section 4.2)."""
MOST_CLASSES = 2000
"""Number of classes up to which label permutations are evaluated by default (own choice). 100 of them take 0.3 s at 200
classes, 4 s at 1,000 and 20 s at 2,000 (one CPU core); the search then has matrices of 100 MB."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(KMeansSettings):
    """The block `evaluate`: settings of k-means, of the number of groups, and of the metrics of classifiers."""

    groups: TwoOrMore | None = None
    """Number of groups that the clusters of each model are merged to before they are scored (`cluster.levels`), and
    number of clusters of k-means; null: as many as the model has. More: smaller and finer groups."""
    permutations: CountOrZero | None = None
    """Number of label permutations for best_of_<k>_acc and permutations.csv; 0: none. null: 100 for up to 2000 classes,
    none for more, where 100 take more than 20 s a classifier. A best_of_<k>_acc whose k is larger
    than the number is left out. More: a better chance that the right one is among them, slower."""
    votes_per_class: Count = 10
    """Largest number of labelled images of a class whose predictions, in four rotations, rank the label permutations;
    where a class has more, as many are drawn. Own choice: on the digits, best_of_10_acc with 10 of 100 a class is that
    with all 100 for classifiers of 94 and 89 % accuracy, and 0.02 lower for one of 50 %. More: a steadier rank, slower
    by four forwards an image."""

    def permutations_of(self, classes: int) -> int:
        """Return the number of label permutations to evaluate for a classifier of so many classes."""
        if self.permutations is not None:
            return self.permutations
        return PERMUTATIONS if classes <= MOST_CLASSES else 0


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model, and its tables."""

    metrics: dict[str, float]
    """Name → value; fractions, not percent."""
    sizes: NDArray[np.int64]
    """Number of images in each cluster, [clusters]."""
    mapping: NDArray[np.int64]
    """Class of each cluster, [clusters]; UNMAPPED (-1) for none, and for all clusters if no label is known."""
    confusion: Sequence[dict[str, str]] = field(default_factory=list)
    """One row per image with a known label: actual and predicted class."""
    classes: list[dict[str, Any]] = field(default_factory=list)
    """One row per class."""
    permutations: list[dict[str, float]] = field(default_factory=list)
    """One row per label permutation, as returned by `permutation_accuracies`."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Other entries of the model's row: labels (number of labelled images used), start (the model it started from)."""


def evaluate_clusters(
    prediction: NDArray[Any], label: NDArray[np.int64], classes: Sequence[str], *, clusters: int
) -> Evaluation:
    """Return the metrics of a clustering: those that need no labels, and those of the images with a known label.

    prediction: [N, clusters] probabilities; or [N] cluster indices, without mean_confidence and top5_acc.
    label: [N], UNKNOWN (-1) if it is not known. classes: class names in the order of labels.
    """
    soft = prediction.ndim == 2
    cluster = prediction.argmax(axis=1) if soft else prediction
    sizes = cluster_sizes(cluster, clusters)
    metrics = clustering_metrics(prediction) if soft else size_metrics(sizes)
    if (label == UNKNOWN).all():
        return Evaluation(metrics, sizes, np.full(clusters, UNMAPPED))
    model = Predictions(
        output=cluster,
        label=label,
        outputs=clusters,
        classes=len(classes),
        is_classifier=False,
        probability=prediction if soft else None,
    )
    return _evaluation(model, metrics, sizes, classes)


def evaluate_classifier(
    probability: NDArray[Any],
    label: NDArray[np.int64],
    classes: Sequence[str],
    *,
    votes: NDArray[Any] | None = None,
    permutations: int = PERMUTATIONS,
) -> Evaluation:
    """Return the metrics of a classifier, under its own classes and under other mappings of its outputs to classes.

    probability: [N, classes]. label: [N], UNKNOWN (-1) if it is not known. classes: class names in the order of labels.
    votes: [classes, classes] as in `permutation_accuracies`, for the metrics best_of_<k>_acc. permutations: number of
    label permutations, at least 1. Raises ValueError for other shapes and
    values.
    """
    count = len(classes)
    if probability.shape != (len(label), count):
        raise ValueError(f"probability: shape {probability.shape} found, expected {(len(label), count)}")
    metrics = clustering_metrics(probability)
    prediction = probability.argmax(axis=1)
    sizes = cluster_sizes(prediction, count)
    if (label == UNKNOWN).all():
        return Evaluation(metrics, sizes, np.arange(count))
    model = Predictions(
        output=prediction,
        label=label,
        outputs=count,
        classes=count,
        is_classifier=True,
        probability=probability,
        permutations=[] if votes is None else permutation_accuracies(votes, prediction, label, k=permutations),
    )
    return _evaluation(model, metrics, sizes, classes)


def _evaluation(
    model: Predictions, without_labels: dict[str, float], sizes: NDArray[np.int64], classes: Sequence[str]
) -> Evaluation:
    """Add the metrics that need labels, in the order of METRICS, and the tables."""
    functions = [(name, getattr(definitions, name)) for name in METRICS if hasattr(definitions, name)]
    values = {name: value for name, function in functions if (value := function(model)) is not None}
    mapped = model.mapping[model.output]
    return Evaluation(
        metrics={**values, **without_labels},
        sizes=sizes,
        mapping=model.mapping,
        confusion=_ConfusionRows(mapped, model.label, classes),
        classes=_class_rows(mapped, model.label, classes),
        permutations=list(model.permutations),
    )


class _ConfusionRows(Sequence[dict[str, str]]):
    """The rows of confusion.csv, of which only the classes' numbers are in memory until they are written."""

    def __init__(self, mapped: NDArray[np.int64], label: NDArray[np.int64], classes: Sequence[str]) -> None:
        known = label != UNKNOWN
        self.names = [*classes, "(no class)"]  # UNMAPPED is -1, the last one
        self.pairs = np.stack([label[known], mapped[known]], axis=1).astype(np.int32)

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, place: int) -> dict[str, str]: ...

    @overload
    def __getitem__(self, place: slice) -> list[dict[str, str]]: ...

    def __getitem__(self, place: int | slice) -> dict[str, str] | list[dict[str, str]]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        actual, predicted = self.pairs[place].tolist()
        return {"actual": self.names[actual], "predicted": self.names[predicted]}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


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
    folder: Path,
    evaluations: Mapping[str, Evaluation],
    classes: Sequence[str],
    metadata: Mapping[str, Any],
    weights: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Write the metrics of all models to metrics.json and table.csv, and a folder with the tables of each model.

    evaluations: model, such as "cluster", "semisup.fixmatch" or "semisup.suave/projection_1" (a linear classifier on
    one of its layers) → its evaluation. metadata: additional entries of every row (protocol, seed, number of images);
    the metadata of each evaluation follow them, and the number of clusters or classes, outputs, precedes them. The
    weights: model → SHA-256 of its weights, of which clusters.csv has the beginning; none of k-means and of layers. The
    folder of a model has clusters.csv and, if they are known, confusion.csv, classes.csv and permutations.csv.
    Returns the content of metrics.json.
    """
    metrics = {
        name: {**evaluation.metrics, "outputs": len(evaluation.sizes), **metadata, **evaluation.metadata}
        for name, evaluation in evaluations.items()
    }
    write_json(folder / "metrics.json", metrics)
    write_csv(folder / "table.csv", [{"model": name, **row} for name, row in metrics.items()])
    for name, evaluation in evaluations.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        clusters = [
            {
                "cluster": i,
                "images": int(size),
                "class": "" if to == UNMAPPED else classes[to],
                MODEL_DIGEST: (weights or {}).get(name, "")[:DIGITS],
            }
            for i, (size, to) in enumerate(zip(evaluation.sizes, evaluation.mapping, strict=True))
        ]
        write_csv(folder / name / "clusters.csv", clusters)
        for table in ("confusion", "classes", "permutations"):
            if rows := getattr(evaluation, table):
                write_csv(folder / name / f"{table}.csv", rows)
    return metrics
