"""Neighbours → clusters."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def cluster(
    method: options.MethodName = None,
    clusters: Annotated[int | None, typer.Option(help="Number of clusters (params: cluster.clusters).")] = None,
    entropy_weight: Annotated[
        float | None, typer.Option(help="λ of SCAN's eq. 2 (params: cluster.scan.entropy_weight).")
    ] = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    featured: options.Featured = Path("runs/features"),
    mined: options.Mined = Path("runs/mine-neighbors"),
    out: options.Out = Path("runs/cluster"),
    device: options.Device = "auto",
    devices: options.Devices = 1,
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    log: options.Log = None,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Cluster the images so that neighbours are in the same cluster (SCAN)."""
    from functools import partial

    from sslpipe.running.clustering import cluster_problem
    from sslpipe.running.stage import run_stage

    run_stage(
        "cluster",
        params,
        partial(cluster_problem, pretrained=pretrained, featured=featured, mined=mined),
        method=method,
        options={
            "clusters": clusters,
            "entropy_weight": entropy_weight,
            "fit.epochs": epochs,
            "fit.batch": batch,
        },
        seed=seed,
        assignments=assignments,
        prepared=prepared,
        out=out,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        log=log,
    )
