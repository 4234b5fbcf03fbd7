"""The history of a finished run → a log."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import completion


def log(
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder of a model, such as runs/self-label, or one below runs/live.",
            autocompletion=completion.models,
        ),
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="NAME", help="Where to: tensorboard.", autocompletion=completion.logs)
    ] = "tensorboard",
) -> None:
    """Write the history of a finished run to TensorBoard, as --log does during the run."""
    from sslpipe.io.console import info
    from sslpipe.tools.write_log import write_log

    folder, rows = write_log(path, to)
    info(f"{folder}: {rows} rows for {to}")
