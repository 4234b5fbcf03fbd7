"""Mean and standard deviation of metrics over repeated runs with different seeds and folds of labels."""

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import fmean, stdev
from typing import Any, TypedDict

from sslpipe.metrics.table import METRICS, Shown, present, print_cells, title_of


class Spread(TypedDict):
    """Statistics of one metric over n runs."""

    mean: float
    std: float | None
    """Sample standard deviation, over n - 1; None for one run."""
    n: int
    min: float
    max: float


def summarise(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Spread]]:
    """Return model → metric → its statistics over the runs.

    runs: the content of metrics.json of each run. A run without the model, or without a finite value of the metric,
    does not count in n. Other entries of a row (seed, protocol, ...) are ignored.
    """
    models = dict.fromkeys(model for run in runs for model in run)
    summary = {}
    for model in models:
        rows = [run[model] for run in runs if model in run]
        values = {metric: [row[metric] for row in rows if _is_number(row.get(metric))] for metric in METRICS}
        summary[model] = {metric: _spread(found) for metric, found in values.items() if found}
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


def print_summary(summary: Mapping[str, Mapping[str, Spread]], chosen: Sequence[str] | None, title: str) -> None:
    """Print "mean ± standard deviation" of each metric and the number of runs, n, one row per model.

    chosen: as in `present`. A metric with fewer runs than the n of its row has its own n.
    """
    shown = present(summary.values(), chosen, Shown.REPEATS)
    cells = []
    for model, row in summary.items():
        runs = max((spread["n"] for spread in row.values()), default=0)
        cells.append([title_of(model), str(runs), *(_cell(row.get(metric), runs) for metric in shown)])
    print_cells(title, ["model", "n", *shown], cells)


def _cell(spread: Spread | None, runs: int) -> str:
    if spread is None:
        return "-"
    deviation = "" if spread["std"] is None else f" ± {spread['std']:.3f}"
    fewer = "" if spread["n"] == runs else f" (n {spread['n']})"
    return f"{spread['mean']:.3f}{deviation}{fewer}"
