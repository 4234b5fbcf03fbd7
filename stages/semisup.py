"""Few labels and all images → a classifier."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def semisup(
    method: Annotated[str, typer.Option(help="Method by name; 'dvc repro' runs those of semisup.methods.")],
    start: Annotated[
        str | None,
        typer.Option(help="pretrain, cluster, self-label, or prepare: from scratch (params: methods.<method>.start)."),
    ] = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    runs: options.Runs = Path("runs"),
    out: options.MethodOut = None,
    device: options.Device = "auto",
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Train a classifier with the few labels and all images."""
    from sslpipe.io.params import Params
    from sslpipe.methods.parts.run import open_run

    run = open_run(
        "sslpipe.methods.semisup",
        "semisup",
        method,
        Params(params),
        {"seed": seed, "start": start, "fit.epochs": epochs, "fit.batch": batch},
        assignments,
        prepared=prepared,
        runs=runs,
        out=out,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
    )
    training = run.training
    training.train(lambda: run.module.Learner(run.settings, run.task()), run.settings, labelled=run.labelled)
