"""Project → names of groups and labels of images, from a page in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import completion, options


def label(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a model of groups or of a classifier; by default runs/self-label or runs/cluster.",
            autocompletion=completion.models,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Table of labels to write; by default the project's file of questions, or labels.csv."),
    ] = None,
    clusters: Annotated[Path, typer.Option(help="Table of the groups' names to write, for predict --names.")] = Path(
        "clusters.csv"
    ),
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 for that of last time, or any free one.")
    ] = 0,
    browser: Annotated[
        bool | None,
        typer.Option(
            "--browser/--no-browser", help="Open the page in a browser; by default at a terminal of this machine."
        ),
    ] = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    featured: options.Featured = Path("runs/features"),
    runs: options.Runs = Path("runs"),
    seed: options.Seed = None,
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
) -> None:
    """Name groups, mark what does not belong, and answer questions about images, on a page in the browser."""
    from sslpipe.labelling.extra import need_extra

    need_extra()
    from sslpipe.data.device import choose_device
    from sslpipe.data.store import Store
    from sslpipe.labelling import page_files
    from sslpipe.labelling.address import FOLDER, check_writable, claimed
    from sslpipe.labelling.collection import Folders
    from sslpipe.labelling.serving import serve
    from sslpipe.labelling.session import Session

    images = Store(prepared).info.fingerprint
    check_writable(labels or Path("labels.csv"), clusters)
    folders = Folders(prepared=prepared, pretrained=pretrained, featured=featured, runs=runs, model=model)
    with claimed(port, images) as (address, listening):
        session = Session.open(
            params,
            seed,
            folders,
            labels=labels,
            clusters=clusters,
            journal=FOLDER / "journal.jsonl",
            device=choose_device(device),
        )
        title = params.absolute().parent.name
        serve(session, address, listening, page=page_files.page(title), assets=page_files.assets(), browser=browser)
