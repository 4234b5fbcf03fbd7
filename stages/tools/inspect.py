"""Artifact → its provenance."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import completion


def inspect(
    path: Annotated[
        Path,
        typer.Argument(help="Folder that a stage wrote, such as runs/self-label.", autocompletion=completion.models),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with all settings.")] = False,
) -> None:
    """Show an artifact's provenance: settings, metrics and inputs, back to the images."""
    import json
    from dataclasses import asdict

    from sslpipe.io.console import info
    from sslpipe.tools.lineage import lines, trace

    artifact = trace(path)
    info(json.dumps(asdict(artifact), indent=2, ensure_ascii=False) if as_json else "\n".join(lines(artifact)))
