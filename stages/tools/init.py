"""A folder of images → a project."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder, made if it is not there.")],
    images: Annotated[Path | None, typer.Option(help="Folder of images, with class sub-folders or without.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A CSV with the columns file and label.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="See 'sslpipe recipe list'; by default own-images for this machine.")
    ] = None,
) -> None:
    """Set up a project for your own images: settings fitted to them, the pipeline, git and DVC.

    In a project that is there already, --labels adds the stages that learn from labels.
    """
    from sslpipe.io.console import info
    from sslpipe.tools import scaffold

    if images is None:
        made = scaffold.add_labels(folder, labels)
    else:
        made = scaffold.new_project(folder, images, labels, recipe)
    info(str(made.seen))
    info(f"{folder}: {', '.join(made.files)} written")
    info(f"next:\n  cd {folder} && dvc repro\n  sslpipe predict runs/{made.model} NEW_IMAGES --out predictions.csv")
