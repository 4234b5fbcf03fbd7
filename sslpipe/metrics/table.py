"""The figures by name, and the table that shows them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, nearest

METRICS = (
    "acc",
    "cluster_acc",
    "gap",
    "nmi",
    "ari",
    "top5_acc",
    "ece",
    "many_to_one_acc",
    "best_of_1_acc",
    "best_of_10_acc",
    "best_of_100_acc",
    "clusters_used",
    "largest_share",
    "size_entropy",
    "mean_confidence",
)
"""All there are, in the order of the table's columns."""
WITH_LABELS = ("acc", "cluster_acc", "gap", "nmi", "ari", "top5_acc", "ece", "mean_confidence")
"""Those that are shown when nothing is asked for and labels are known; with a model's name they fit 120 columns."""
LOG_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""


def chosen_metrics(metric: str | None) -> tuple[str, ...] | None:
    """The figures to show for the option --metric: one by name, with - or _; None leaves the choice to the table."""
    if metric is None:
        return None
    name = metric.replace("-", "_")
    if name not in METRICS:
        raise UserError(f"--metric: unknown name '{metric}'{nearest(name, METRICS)}")
    return (name,)


def present(rows: Iterable[Mapping[str, Any]], figures: Sequence[str] | None, usual: Sequence[str]) -> list[str]:
    """Those of `figures` that any row has; where None is given the `usual` ones, or all if no label is known."""
    rows = list(rows)
    if figures is None:
        figures = usual if any("cluster_acc" in row for row in rows) else METRICS
    return [figure for figure in figures if any(figure in row for row in rows)]


def print_table(metrics: Mapping[str, Mapping[str, Any]], figures: Sequence[str] | None) -> None:
    """A row a model on the terminal, with the figures that any of them has; the title states the protocol.

    metrics: model → its metrics and metadata, of one run: the content of metrics.json.
    """
    shown = present(metrics.values(), figures, WITH_LABELS)
    metadata = next(iter(metrics.values()))
    title = f"protocol {metadata['protocol']}, {metadata['images']} images scored, seed {metadata['seed']}"
    labels = sorted({row["labels"] for row in metrics.values() if "labels" in row})
    if labels:
        title += f", {' or '.join(map(str, labels))} labels"
    cells = [[name, *(_decimals(row.get(figure)) for figure in shown)] for name, row in metrics.items()]
    print_cells(title, ["model", *shown], cells)
    if not shown:
        info(f"no model has {', '.join(figures or ())}: labels or a model that knows the classes are missing")


def print_cells(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on the terminal, as wide as that is; the first column to the left, figures to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    info(title)  # not the table's own title, which is broken to the width of the columns
    Console(width=None if Console().is_terminal else LOG_WIDTH).print(table)


def _decimals(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
