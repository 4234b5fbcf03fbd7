"""Neighbours → groups."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def cluster(
    clusters: Annotated[int | None, typer.Option(help="Number of groups (params: cluster.clusters).")] = None,
    entropy_weight: Annotated[float | None, typer.Option(help="λ of eq. 2 (params: cluster.entropy_weight).")] = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    pretrained: options.Pretrained = Path("runs/pretrain"),
    mined: options.Mined = Path("runs/mine-neighbors"),
    out: options.Out = Path("runs/cluster"),
    device: options.Device = "auto",
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Group the images so that neighbours share a group (SCAN)."""
    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params
    from sslpipe.methods.cluster.scan import Clustering, Settings, read_neighborhood
    from sslpipe.methods.training import Training
    from sslpipe.nets.model_file import load_network

    project = Params(params)
    project.override(
        {
            "seed": seed,
            "cluster.clusters": clusters,
            "cluster.entropy_weight": entropy_weight,
            "cluster.fit.epochs": epochs,
            "cluster.fit.batch": batch,
        },
        assignments,
        stage="cluster",
    )
    settings = project.parse(Settings, "cluster")

    store = Store(prepared)
    network = load_network(pretrained, store.info)
    images = Images(store.images("train"), choose_device(device))
    others = Images(store.images("held_out"), choose_device(device))
    train = read_neighborhood(images, mined / "train", settings, k=settings.neighbors)
    held_out = read_neighborhood(others, mined / "held_out", settings, k=None)
    training = Training(
        stage="cluster",
        out=out,
        where="cluster",
        store=store,
        images=images,
        seed=project.seed,
        started_from=pretrained,
        inputs=[mined / "train" / "indices.npy", mined / "held_out" / "indices.npy"],
        checkpoint_seconds=checkpoint_seconds,
    )
    training.train(lambda: Clustering(settings, network, train, held_out), settings)
