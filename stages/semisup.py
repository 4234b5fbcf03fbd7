"""A few labels and all images → a classifier (semi-supervised learning)."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def semisup(
    method: Annotated[str, typer.Option(help="Name of the method; 'dvc repro' runs those in semisup.methods.")],
    start: Annotated[
        str | None,
        typer.Option(
            help="Run to start from, a folder under runs/; `prepare` trains from scratch (params: semisup.methods)."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="given, or reliable: no label, but groups of the run to start from whose neighbours agree "
            "(params: semisup.methods)."
        ),
    ] = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    runs: options.Runs = Path("runs"),
    featured: options.Featured = Path("runs/features"),
    mined: options.Mined = Path("runs/mine-neighbors"),
    out: options.MethodOut = None,
    device: options.Device = "auto",
    devices: options.Devices = 1,
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    log: options.Log = None,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Train a classifier with a few labels and all images."""
    from functools import partial

    from sslpipe.running.few_labels import labelled_problem
    from sslpipe.running.stage import run_stage

    run_stage(
        "semisup",
        params,
        partial(labelled_problem, runs=runs, featured=featured, mined=mined),
        method=method,
        options={"start": start, "labels": labels, "fit.epochs": epochs, "fit.batch": batch},
        seed=seed,
        assignments=assignments,
        prepared=prepared,
        out=out or runs / "semisup" / method,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        log=log,
    )
