"""Model → files that run without sslpipe."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def export(
    model: options.Model,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="onnx, torch (an archive of torch.export), or timm (what timm.create_model loads)."
        ),
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default exported/<stage> or exported/<stage>-<method>.")
    ] = None,
    groups: options.Groups = None,
) -> None:
    """Export the model with a model card, and compare the file's outputs with the model's.

    onnx and torch write one file from uint8 images to probabilities; timm needs a network that timm has.
    """
    from sslpipe.io.console import info
    from sslpipe.tools.export import export_model

    written = export_model(model, form, out, groups=groups)
    size = f"{written.size / 1e6:.1f} MB"
    info(f"{written.path}: {size}, at most {written.difference:.1e} from the model's outputs; card: {written.card}")
