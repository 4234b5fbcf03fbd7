"""The metrics by name, and the table that shows them on the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Flag, auto
from typing import Any

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.stages import LABELLED_STAGES, MERGED_FROM, RELIABLE
from sslpipe.io.text import counted


class Shown(Flag):
    """Tables that show a metric by default if labels are known; both fit into LOG_WIDTH."""

    ON_REQUEST = 0
    """In no table, only with the option --metric."""
    RUN = auto()
    """In the table of one run."""
    REPEATS = auto()
    """In the table of repeated runs, where metrics have standard deviations."""


ALWAYS = Shown.RUN | Shown.REPEATS

METRICS = {
    "acc": ALWAYS,
    "cluster_acc": ALWAYS,
    "gap": ALWAYS,
    "nmi": ALWAYS,
    "ari": Shown.RUN,
    "top5_acc": Shown.RUN,
    "ece": ALWAYS,
    "many_to_one_acc": Shown.ON_REQUEST,
    "best_of_1_acc": Shown.ON_REQUEST,
    "best_of_10_acc": Shown.ON_REQUEST,
    "best_of_100_acc": Shown.ON_REQUEST,
    "clusters_used": Shown.ON_REQUEST,
    "largest_share": Shown.ON_REQUEST,
    "size_entropy": Shown.ON_REQUEST,
    "mean_confidence": Shown.RUN,
}
"""All metrics in the order of the table's columns, and the tables that show them by default.

To add a metric, add a line here and a function of the same name in definitions.py (for a metric that needs no labels,
an entry in `clustering_metrics` instead). If no label is known, tables show all metrics.
"""
LOG_WIDTH = 120
"""Width of a table that is written to a file or a pipe, in characters."""


def shown_by_default(table: Shown) -> tuple[str, ...]:
    """Return the metrics that a table shows by default."""
    return tuple(name for name, tables in METRICS.items() if table in tables)


def chosen_metrics(metric: str | None) -> tuple[str, ...] | None:
    """Return the metrics to show for the option --metric, a name with - or _; None for the default of the table."""
    if metric is None:
        return None
    name = metric.replace("-", "_")
    if name not in METRICS:
        raise UserError(f"--metric: unknown name '{metric}'{nearest(name, METRICS)}")
    return (name,)


def present(rows: Iterable[Mapping[str, Any]], chosen: Sequence[str] | None, table: Shown) -> list[str]:
    """Return the `chosen` metrics that any row has.

    chosen: None for those that the table shows by default if labels are known, and for all metrics otherwise.
    """
    rows = list(rows)
    if chosen is None:
        chosen = shown_by_default(table) if any("cluster_acc" in row for row in rows) else tuple(METRICS)
    return [name for name in chosen if any(name in row for row in rows)]


def print_table(metrics: Mapping[str, Mapping[str, Any]], chosen: Sequence[str] | None) -> None:
    """Print the metrics of one run, one row per model; the title states the protocol.

    metrics: model → its metrics and metadata, the content of metrics.json. chosen: as in `present`.
    """
    if not metrics:
        info("no model to evaluate: params.yaml has no stage with a model, and no label is known for k-means on pixels")
        return
    shown = present(metrics.values(), chosen, Shown.RUN)
    metadata = next(iter(metrics.values()))
    title = f"protocol {metadata['protocol']}, {metadata['images']} images scored, seed {metadata['seed']}"
    title += labels_title(metrics.values())
    cells = [[title_of(name), *(_decimals(row.get(metric)) for metric in shown)] for name, row in metrics.items()]
    print_cells(title, ["model", *shown], cells)
    for name, row in metrics.items():
        if MERGED_FROM in row and "/" not in name:
            info(f"{name}: {row[MERGED_FROM]} groups merged to {row['outputs']}")
        report_unused(name, row)
    if not shown:
        info(f"no model has {', '.join(chosen or ())}: it needs labels or a classifier")


def highest(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the highest accuracy of the classifiers and of the clusters, and the models that have it, in words."""
    parts = []
    for metric, others in (("acc", ()), ("cluster_acc", ("acc",))):
        found = {
            name: row[metric]
            for name, row in metrics.items()
            if row.get(metric) is not None and all(row.get(other) is None for other in others)
        }
        if found:
            best = max(found, key=lambda name: found[name])
            parts.append(f"highest {metric} {found[best]:.3f}, {best}")
    return f"{counted(len(metrics), 'row')}; {'; '.join(parts) or 'no labels, so no accuracy'}"


def labels_title(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the end of a table's title: the number of labels, and whether they were chosen; "" without labels."""
    rows = list(rows)
    labels = sorted({row["labels"] for row in rows if "labels" in row})
    how = " chosen, not drawn" if any(row.get("labels_chosen") for row in rows) else ""
    return f", {' or '.join(map(str, labels))} labels{how}" if labels else ""


def title_of(name: str) -> str:
    """Return the first cell of a row: the model's name; of a classifier on one of its layers, that layer's alone.

    Such a row, semisup.suave/projection_1, follows the row of its model.
    """
    _, _, layer = name.partition("/")
    return f"  /{layer}" if layer else name


def report_unused(name: str, row: Mapping[str, Any]) -> None:
    """Print a line if a model predicts fewer clusters than it has, or only one of its classes.

    A row of an older evaluation, which has no number of outputs, prints nothing.
    """
    used, outputs = row.get("clusters_used"), row.get("outputs")
    is_classifier = name.partition(".")[0] in LABELLED_STAGES and RELIABLE not in row
    # A class may have no image among the test images.
    if used is not None and outputs is not None and used < outputs and (used == 1 or not is_classifier):
        info(f"{name}: all images are in {used} of {outputs} {'classes' if is_classifier else 'clusters'}")


def print_cells(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of the terminal's width; the first column is left-aligned, the others right-aligned.

    Where it is too wide, lines between the columns are left out and their names are broken at underscores; then the
    last columns are left out, and a line names them. Names in the first column are broken at spaces alone.
    """
    from rich.console import Console

    rows = list(rows)
    width = Console().width if Console().is_terminal else LOG_WIDTH
    shown, count = [name.replace("_", "\n") for name in columns], len(columns)
    gap = None if _least_width(columns, rows, 3) + 4 <= width else GAP
    if gap and _least_width(shown, rows, gap) > width:
        gap = 1
    while gap and count > 2 and _least_width(shown[:count], rows, gap) > width:
        count -= 1
    if title:
        info(title)  # the title of a rich table is wrapped to the width of its columns
    table = _table(shown[:count] if gap else columns, rows, gap)
    # A name such as [red] or :smile: is no markup.
    Console(width=width, markup=False, emoji=False).print(table)
    if count < len(columns):
        info(f"not shown, since the terminal has {width} columns: {', '.join(columns[count:])}")


GAP = 2
"""Characters between two columns of a narrow table, 1 if it would be too wide."""


def _least_width(columns: Sequence[str], rows: Sequence[Sequence[str]], gap: int) -> int:
    """Return the least width of a table without its edges, with so many characters between its columns.

    Names in the first column are broken at spaces, but for those at their beginning, which indent them.
    """
    first = [len(word) for row in rows for word in (row[0].split(" ") if row[0].strip() == row[0] else [row[0]])]
    widths = [max(first, default=0)]
    widths += [max((len(row[place]) for row in rows), default=0) for place in range(1, len(columns))]
    headers = [max(map(len, column.split("\n"))) for column in columns]
    return sum(map(max, widths, headers)) + gap * (len(columns) - 1)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], gap: int | None) -> Any:
    """Return a rich table, with so many characters between the columns; None: with lines between them and around it."""
    from rich import box
    from rich.table import Table

    narrow: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
    table = Table() if gap is None else Table(**narrow, padding=(0, gap - 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", overflow="fold", no_wrap=bool(place))
    for row in rows:
        table.add_row(*row[: len(columns)])
    return table


def _decimals(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
