"""Metrics of the last evaluation → a table."""

from sslpipe.io import options


def table(metric: options.Metric = None) -> None:
    """Print the metrics of the last evaluation."""
    from pathlib import Path

    from sslpipe.io.console import info
    from sslpipe.io.files import read_json
    from sslpipe.io.text import listed
    from sslpipe.metrics.scored_models import changed_models
    from sslpipe.metrics.table import chosen_metrics, print_table

    chosen, mined = chosen_metrics(metric), Path("runs/mine-neighbors/metrics.json")
    if mined.exists():
        shown = ", ".join(f"{name} {value:.3f}" for name, value in read_json(mined)["train"].items())
        info(f"training neighbours of the same class: {shown or 'unknown, too few labels'}")
    metrics = read_json(Path("runs/evaluate/metrics.json"))
    if changed := changed_models(Path("runs/evaluate")):
        info(f"these metrics are of other models than are in {listed(changed)} now; 'sslpipe evaluate' renews them")
    print_table(metrics, chosen)
