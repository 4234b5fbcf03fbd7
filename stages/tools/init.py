"""A folder of images → a project."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the project, created if it does not exist.")],
    images: Annotated[Path | None, typer.Option(help="Folder of images, with or without class sub-folders.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Table (CSV, JSON lines, ...) with the columns file, label.")
    ] = None,
    layout: Annotated[
        Literal["flat", "classes", "parts"] | None,
        typer.Option(help="What the sub-folders of images are: flat, classes or parts."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe, see 'sslpipe recipe list'; by default own-images or, without a GPU, own-images-cpu."
        ),
    ] = None,
) -> None:
    """Set up a project for your own images: settings adapted to them, the pipeline, git and DVC.

    In an existing project, --labels adds the labels and the stages that need them.
    """
    from shlex import quote

    from sslpipe.io.console import info
    from sslpipe.io.errors import UserError
    from sslpipe.tools import scaffold
    from sslpipe.tools.layout_table import print_layout

    if images is None:
        for option, value, key in (("--layout", layout, "prepare.folder.layout"), ("--recipe", recipe, "the settings")):
            if value is not None:
                raise UserError(f"{option}: needs --images; in an existing project change {key} in params.yaml")
        result = scaffold.add_labels(folder, labels)
    else:
        result = scaffold.new_project(folder, images, labels, recipe, layout)
    if result.images.source:
        print_layout(result.images.source)
    info(str(result.images))
    info(f"{folder}: {', '.join(result.files)} written")
    info(f"next:\n  cd {quote(str(folder))} && dvc repro")
    info(f"  sslpipe predict runs/{result.model} NEW_IMAGES --out predictions.csv")
