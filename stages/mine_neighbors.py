"""Features → nearest neighbours of each image."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def mine_neighbors(
    k: Annotated[int | None, typer.Option("--k", help="Neighbours per image (params: mine_neighbors.k).")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, torch or faiss (params: backend).")] = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    featured: options.Featured = Path("runs/features"),
    out: options.Out = Path("runs/mine-neighbors"),
    device: options.Device = "auto",
    devices: options.Devices = 1,
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Find the nearest neighbours of each image in feature space."""
    from sslpipe.data import world
    from sslpipe.data.device import choose_device
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params
    from sslpipe.io.stage_end import print_end
    from sslpipe.neighbors.mining import MiningSettings
    from sslpipe.running.mining import mine

    project = Params(params)
    project.override({"mine_neighbors.k": k, "mine_neighbors.backend": backend}, assignments, stage="mine_neighbors")
    settings = project.parse(MiningSettings, "mine_neighbors")
    found_device = choose_device(device)
    with world.joined(found_device):
        purity = mine(
            settings, Store(prepared), pretrained, featured, out, found_device, checkpoint_seconds=checkpoint_seconds
        )
    if purity is None:
        return
    ends = [min(purity), max(purity)] if purity else []
    shown = ", ".join(f"{purity[count]:.3f} at k = {count}" for count in dict.fromkeys(ends))
    of_class = shown or "unknown, too few labels"
    found = f"mine-neighbors: {settings.k} an image; of the same class: {of_class}"
    print_end("mine-neighbors", out, found, project.tree)
