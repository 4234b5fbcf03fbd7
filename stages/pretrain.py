"""Images → a backbone pretrained without labels."""

from pathlib import Path

from sslpipe.io import options


def pretrain(
    method: options.MethodName = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    out: options.Out = Path("runs/pretrain"),
    device: options.Device = "auto",
    devices: options.Devices = 1,
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    log: options.Log = None,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Train a backbone on a pretext task, without labels."""
    from sslpipe.running.pretraining import pretrain_problem
    from sslpipe.running.stage import run_stage

    run_stage(
        "pretrain",
        params,
        pretrain_problem,
        method=method,
        options={"fit.epochs": epochs, "fit.batch": batch},
        seed=seed,
        assignments=assignments,
        prepared=prepared,
        out=out,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        log=log,
    )
