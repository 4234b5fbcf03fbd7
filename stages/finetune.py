"""A model → a classifier: a linear probe, or fine-tuning of the whole model."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def finetune(
    method: Annotated[str, typer.Option(help="Name of the method; 'dvc repro' runs those in finetune.methods.")],
    start: Annotated[
        str | None, typer.Option(help="Run to start from, a folder under runs/ (params: finetune.methods).")
    ] = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    runs: options.Runs = Path("runs"),
    featured: options.Featured = Path("runs/features"),
    out: options.MethodOut = None,
    device: options.Device = "auto",
    devices: options.Devices = 1,
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    log: options.Log = None,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Fit a linear probe (linear) or fine-tune the whole model (supervised, semisupervised) with a few labels."""
    from functools import partial

    from sslpipe.running.few_labels import labelled_problem
    from sslpipe.running.stage import run_stage

    run_stage(
        "finetune",
        params,
        partial(labelled_problem, runs=runs, featured=featured),
        method=method,
        options={"start": start, "fit.epochs": epochs, "fit.batch": batch},
        seed=seed,
        assignments=assignments,
        prepared=prepared,
        out=out or runs / "finetune" / method,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        log=log,
    )
