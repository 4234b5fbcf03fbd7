"""Model → one file that runs without sslpipe."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def export(
    model: options.Model,
    form: Annotated[str, typer.Option("--format", help="onnx, or torch (an archive of torch.export).")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default exported/<stage> or exported/<stage>-<method>.")
    ] = None,
) -> None:
    """Export the model to one file, from uint8 images to probabilities, and compare its outputs with the model's."""
    from sslpipe.io.console import info
    from sslpipe.tools.export import export_model

    written = export_model(model, form, out)
    info(f"{written.path}: {written.size / 1e6:.1f} MB, at most {written.difference:.1e} from the model's outputs")
