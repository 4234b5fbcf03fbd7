"""What the last run reached, once more."""

from sslpipe.io import options


def table(metric: options.Metric = None) -> None:
    """Show again what the last run reached."""
    from pathlib import Path

    from sslpipe.io.files import read_json
    from sslpipe.metrics.table import chosen_figures, print_table

    figures = chosen_figures(metric)
    purity = read_json(Path("runs/mine-neighbors/metrics.json"))["train"]
    shown = ", ".join(f"{name} {value:.3f}" for name, value in purity.items())
    print(f"training neighbours of the same class: {shown or 'unknown, no labels'}")
    print_table(read_json(Path("runs/evaluate/metrics.json")), figures)
