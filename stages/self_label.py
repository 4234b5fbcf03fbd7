"""Groups → groups that the model is sure of."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def self_label(
    threshold: Annotated[float | None, typer.Option(help="Confidence to learn from (params: threshold).")] = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    clustered: options.Clustered = Path("runs/cluster"),
    out: options.Out = Path("runs/self-label"),
    device: options.Device = "auto",
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Sharpen the groups by learning from the model's own confident answers."""
    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params
    from sslpipe.methods.self_label.confident import SelfLabelling, Settings
    from sslpipe.methods.training import Training
    from sslpipe.nets.model_file import load_network

    project = Params(params)
    project.override(
        {
            "seed": seed,
            "self_label.threshold": threshold,
            "self_label.fit.epochs": epochs,
            "self_label.fit.batch": batch,
        },
        assignments,
        stage="self_label",
    )
    settings = project.parse(Settings, "self_label")

    store = Store(prepared)
    network = load_network(clustered, store.info)
    images = Images(store.images("train"), choose_device(device))
    training = Training(
        stage="self-label",
        out=out,
        where="self_label",
        store=store,
        images=images,
        seed=project.seed,
        started_from=clustered,
        checkpoint_seconds=checkpoint_seconds,
    )
    training.train(lambda: SelfLabelling(settings, network, images), settings)
