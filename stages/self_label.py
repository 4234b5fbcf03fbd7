"""Clusters → clusters refined by self-training."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def self_label(
    method: options.MethodName = None,
    threshold: Annotated[
        float | None, typer.Option(help="Confidence threshold (params: self_label.confident.threshold).")
    ] = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    clustered: options.Clustered = Path("runs/cluster"),
    featured: options.Featured = Path("runs/features"),
    mined: options.Mined = Path("runs/mine-neighbors"),
    out: options.Out = Path("runs/self-label"),
    device: options.Device = "auto",
    devices: options.Devices = 1,
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    log: options.Log = None,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Refine the clusters by training on their most reliable images."""
    from functools import partial

    from sslpipe.running.self_labelling import self_label_problem
    from sslpipe.running.stage import run_stage

    run_stage(
        "self-label",
        params,
        partial(self_label_problem, clustered=clustered, featured=featured, mined=mined),
        method=method,
        options={"threshold": threshold, "fit.epochs": epochs, "fit.batch": batch},
        seed=seed,
        assignments=assignments,
        prepared=prepared,
        out=out,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        log=log,
    )
