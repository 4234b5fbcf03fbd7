"""Metrics of the last evaluation → a table."""

from sslpipe.io import options


def table(metric: options.Metric = None) -> None:
    """Print the metrics of the last evaluation."""
    from pathlib import Path

    from sslpipe.io.files import read_json
    from sslpipe.metrics.table import chosen_metrics, print_table

    chosen, mined = chosen_metrics(metric), Path("runs/mine-neighbors/metrics.json")
    if mined.exists():
        shown = ", ".join(f"{name} {value:.3f}" for name, value in read_json(mined)["train"].items())
        print(f"training neighbours of the same class: {shown or 'unknown, too few labels'}")
    print_table(read_json(Path("runs/evaluate/metrics.json")), chosen)
