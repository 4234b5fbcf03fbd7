"""Images of a source → the image store that all other stages read."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def prepare(
    source: Annotated[str | None, typer.Option(help="Image source, such as folder (params: prepare.source).")] = None,
    path: Annotated[str | None, typer.Option(help="Folder of images; implies --source folder.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the square images, pixels (params: prepare.size).")] = None,
    seed: options.Seed = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on broken images instead of skipping them.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes; by default one per core.")] = None,
    out: options.Out = Path("runs/prepare"),
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Decode the images and draw the splits and the labelled subset."""
    from sslpipe.io.console import info
    from sslpipe.io.own_process import available_cores
    from sslpipe.io.params import Params, find_module, siblings
    from sslpipe.io.stage_end import print_end
    from sslpipe.preparation.splits import protocol_named
    from sslpipe.preparation.store_writer import read_settings, write_store

    project = Params(params)
    implied = "folder" if path is not None and source is None else source
    project.override(
        {"seed": seed, "prepare.source": implied, "prepare.folder.path": path, "prepare.size": size},
        assignments,
        stage="prepare",
    )
    settings = read_settings(project, sources=siblings("sslpipe.sources"))
    module = find_module("sslpipe.sources", settings.source, where="prepare.source")
    images = module.Source(project.parse(module.Settings, f"prepare.{settings.source}"))

    for note in images.notes:
        info(f"- {note}")
    prepared = write_store(
        out,
        images,
        settings,
        protocol=protocol_named(project.tree.get("protocol", "split")),
        seed=project.seed,
        workers=workers or available_cores(),
        strict=strict,
    )
    print_end("prepare", out, f"prepare: {prepared}", project.tree)
