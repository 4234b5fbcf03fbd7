"""All figures of one grouping of images, and the files and the table that show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.files import write_csv, write_json
from sslpipe.metrics.clustering import (
    UNMAPPED,
    ari,
    cluster_accuracy,
    cluster_sizes,
    grouping_figures,
    many_to_one_accuracy,
    nmi,
    per_class,
    top_k_accuracy,
)

FIGURES = (
    "cluster_acc",
    "nmi",
    "ari",
    "top5_acc",
    "many_to_one_acc",
    "clusters_used",
    "largest_share",
    "size_entropy",
    "mean_confidence",
)
"""Columns of the table, in order."""
WITH_LABELS = ("cluster_acc", "nmi", "ari", "top5_acc", "many_to_one_acc", "clusters_used", "mean_confidence")
"""Those that are shown when nothing is asked for and labels are known."""


@dataclass(frozen=True)
class Grade:
    """What is known of one grouping."""

    figures: dict[str, float]
    """Name → value; fractions, not percent."""
    sizes: NDArray[np.int64]
    """[clusters] images in each."""
    mapping: NDArray[np.int64]
    """[clusters] class of each, UNMAPPED (-1) for none; all are where no label is known."""
    confusion: list[dict[str, str]] = field(default_factory=list)
    """One row an image with a known label: actual and predicted class."""
    classes: list[dict[str, Any]] = field(default_factory=list)
    """One row a class."""


def grade(answer: NDArray[Any], label: NDArray[np.int64], classes: Sequence[str], *, clusters: int) -> Grade:
    """Figures of a grouping against the labels that are known, and those that need none.

    answer: [N, clusters] probabilities, or [N] cluster indices, which have no confidence and no top-5.
    label: [N], UNKNOWN (-1) where there is none. classes: names in the order of labels.
    """
    soft = answer.ndim == 2
    prediction = answer.argmax(axis=1) if soft else answer
    figures = grouping_figures(answer if soft else np.eye(clusters, dtype=np.float32)[answer])
    if not soft:
        del figures["mean_confidence"]
    sizes = cluster_sizes(prediction, clusters)
    if (label == UNKNOWN).all():
        return Grade(figures, sizes, np.full(clusters, UNMAPPED))
    count = len(classes)
    accuracy, mapping = cluster_accuracy(prediction, label, n_clusters=clusters, n_classes=count)
    many_to_one, _ = many_to_one_accuracy(prediction, label, n_clusters=clusters, n_classes=count)
    scores = {"cluster_acc": accuracy, "nmi": nmi(prediction, label), "ari": ari(prediction, label)}
    if soft and clusters > 5:
        scores["top5_acc"] = top_k_accuracy(answer, label, mapping, 5)
    named = [*classes, "(no class)"]
    mapped = mapping[prediction]
    known = label != UNKNOWN
    pairs = [{"actual": named[a], "predicted": named[p]} for a, p in zip(label[known], mapped[known], strict=True)]
    return Grade(
        figures={**scores, "many_to_one_acc": many_to_one, **figures},
        sizes=sizes,
        mapping=mapping,
        confusion=pairs,
        classes=_class_rows(mapped, label, named),
    )


def _class_rows(mapped: NDArray[np.int64], label: NDArray[np.int64], named: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name, row in zip(named, per_class(mapped, label, len(named) - 1), strict=False):
        other = "" if row.confused_with is None else named[row.confused_with]
        rows.append(
            {
                "class": name,
                "images": row.count,
                "accuracy": row.accuracy,
                "most_confused_with": other,
                "confused": row.confused_count,
            }
        )
    return rows


def write_grades(
    folder: Path, grades: Mapping[str, Grade], classes: Sequence[str], facts: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """metrics.json and table.csv with a row a model, and each model's confusion, classes and clusters as CSV.

    facts: what every row also states (protocol, seed, images scored). Returns the content of metrics.json.
    """
    metrics = {name: {**grade.figures, **facts} for name, grade in grades.items()}
    write_json(folder / "metrics.json", metrics)
    write_csv(folder / "table.csv", [{"model": name, **row} for name, row in metrics.items()])
    for name, grade in grades.items():
        (folder / name).mkdir()
        clusters = [
            {"cluster": i, "images": int(size), "class": "" if to == UNMAPPED else classes[to]}
            for i, (size, to) in enumerate(zip(grade.sizes, grade.mapping, strict=True))
        ]
        write_csv(folder / name / "clusters.csv", clusters)
        if grade.confusion:
            write_csv(folder / name / "confusion.csv", grade.confusion)
            write_csv(folder / name / "classes.csv", grade.classes)
    return metrics


def chosen_figures(metric: str | None) -> tuple[str, ...] | None:
    """The figures to show for the option --metric: one by name, with - or _; None leaves the choice to the table."""
    if metric is None:
        return None
    name = metric.replace("-", "_")
    if name not in FIGURES:
        raise UserError(f"--metric: unknown name '{metric}'{nearest(name, FIGURES)}")
    return (name,)


def print_table(metrics: Mapping[str, Mapping[str, Any]], figures: Sequence[str] | None) -> None:
    """A row a model on the terminal, with the figures that any of them has; the title states the protocol."""
    from rich.console import Console
    from rich.table import Table

    if figures is None:
        figures = WITH_LABELS if any("cluster_acc" in row for row in metrics.values()) else FIGURES
    shown = [figure for figure in figures if any(figure in row for row in metrics.values())]
    facts = next(iter(metrics.values()))
    title = f"protocol {facts['protocol']}, {facts['images']} images scored, seed {facts['seed']}"
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for figure in shown:
        table.add_column(figure, justify="right")
    for name, row in metrics.items():
        table.add_row(name, *(_decimals(row.get(figure)) for figure in shown))
    Console(width=None if Console().is_terminal else 120).print(table)
    if not shown:
        Console().print("none of these figures can be had without labels")


def _decimals(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
