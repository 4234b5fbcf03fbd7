"""Several runs of the same models, such as seeds and folds of labels, as mean and deviation."""

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import fmean, stdev
from typing import Any, TypedDict

from sslpipe.metrics.table import METRICS, present, print_cells

USUAL = ("acc", "cluster_acc", "gap", "nmi", "ece")
"""Those that are shown when nothing is asked for and labels are known; with their deviations they fit 120 columns."""


class Spread(TypedDict):
    """One figure over n runs."""

    mean: float
    std: float | None
    """Of a sample, over n - 1; None for one run."""
    n: int
    min: float
    max: float


def summarise(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Spread]]:
    """Model → figure → how it spreads over the runs.

    runs: the contents of their metrics.json. A run that lacks a model or a figure, or has no finite number for it, is
    left out of that one's n; other entries of a row (seed, protocol, ...) are passed over.
    """
    models = dict.fromkeys(model for run in runs for model in run)
    summary = {}
    for model in models:
        rows = [run[model] for run in runs if model in run]
        values = {figure: [row[figure] for row in rows if _is_number(row.get(figure))] for figure in METRICS}
        summary[model] = {figure: _spread(found) for figure, found in values.items() if found}
    return summary


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _spread(values: Sequence[float]) -> Spread:
    return {
        "mean": fmean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "min": min(values),
        "max": max(values),
    }


def print_summary(summary: Mapping[str, Mapping[str, Spread]], figures: Sequence[str] | None, title: str) -> None:
    """A row a model on the terminal: "mean ± standard deviation" of each figure that any model has, and n.

    A cell of fewer runs than the row's n states its own.
    """
    shown = present(summary.values(), figures, USUAL)
    cells = []
    for model, row in summary.items():
        runs = max((spread["n"] for spread in row.values()), default=0)
        cells.append([model, str(runs), *(_cell(row.get(figure), runs) for figure in shown)])
    print_cells(title, ["model", "n", *shown], cells)


def _cell(spread: Spread | None, runs: int) -> str:
    if spread is None:
        return "-"
    deviation = "" if spread["std"] is None else f" ± {spread['std']:.3f}"
    fewer = "" if spread["n"] == runs else f" (n {spread['n']})"
    return f"{spread['mean']:.3f}{deviation}{fewer}"
