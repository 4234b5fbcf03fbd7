"""The files of the image source → a list with sizes and times, which tells DVC when prepare has to run again."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def list_images(
    out: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("runs/list-images/files.csv"),
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """List the image files with sizes and times; dvc repro always runs this, and prepare only if the list changes."""
    from sslpipe.io.console import info
    from sslpipe.io.errors import UserError
    from sslpipe.io.files import project_path
    from sslpipe.io.params import Params, find_module, siblings
    from sslpipe.io.text import counted
    from sslpipe.preparation.listing import write_listing
    from sslpipe.preparation.store_writer import read_settings

    project = Params(params)
    project.override({}, assignments, stage="prepare")
    prepare = read_settings(project, sources=siblings("sslpipe.sources"))
    source = prepare.source
    module = find_module("sslpipe.sources", source, where="prepare.source")
    settings = project.parse(module.Settings, f"prepare.{source}")
    if not hasattr(settings, "path"):
        raise UserError(f"prepare.source: {source} reads no folder of images, nothing to list")
    root = project_path(settings.path)
    if not root.exists() and out.exists():
        info(f"{root} does not exist; {out} stays as it is")
        return
    listed = [project_path(prepare.labelled.images)] if prepare.labelled and prepare.labelled.images else []
    count = write_listing(out, root, [*settings.tables(), *listed], where=f"prepare.{source}.path")
    info(f"{out}: {counted(count, 'file')}")
