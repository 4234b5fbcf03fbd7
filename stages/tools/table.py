"""What the last run reached, once more."""

from sslpipe.io import options


def table(metric: options.Metric = None) -> None:
    """Show again what the last run reached."""
    from pathlib import Path

    from sslpipe.io.files import read_json
    from sslpipe.metrics.table import chosen_metrics, print_table

    figures, mined = chosen_metrics(metric), Path("runs/mine-neighbors/metrics.json")
    if mined.exists():
        shown = ", ".join(f"{name} {value:.3f}" for name, value in read_json(mined)["train"].items())
        print(f"training neighbours of the same class: {shown or 'unknown, too few labels'}")
    print_table(read_json(Path("runs/evaluate/metrics.json")), figures)
