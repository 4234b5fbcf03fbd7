"""Cached features → a suggested number of clusters."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def estimate_clusters(
    at_least: Annotated[int, typer.Option(min=2, help="Lowest number of clusters to try.")] = 2,
    at_most: Annotated[
        int | None,
        typer.Option(min=2, help="Highest number to try; by default 50, or a 20th of the training images if fewer."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Cluster heads to train for each number.")] = 8,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    featured: options.Featured = Path("runs/features"),
    mined: options.Mined = Path("runs/mine-neighbors"),
    out: options.Out = Path("runs/estimate-clusters"),
    seed: options.Seed = None,
    device: options.Device = "auto",
    params: options.ParamsPath = Path("params.yaml"),
) -> None:
    """Suggest a number of clusters from the features, without labels."""
    from sslpipe.data.device import choose_device
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params
    from sslpipe.running.features import open_features
    from sslpipe.tools.estimate_clusters import EstimateSettings
    from sslpipe.tools.estimate_run import run_estimate

    number = Params(params).seed if seed is None else seed
    settings = EstimateSettings(at_least=at_least, at_most=at_most, seeds=seeds)
    stored = open_features(featured, Store(prepared), pretrained)
    run_estimate(settings, stored, mined, out, seed=number, device=choose_device(device))
