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
    import torch

    from sslpipe.data.batches import Batches
    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import Store
    from sslpipe.engine.checkpoint import Checkpoint
    from sslpipe.engine.loop import fit
    from sslpipe.io.files import sha256, whole_folder, write_csv
    from sslpipe.io.params import Params
    from sslpipe.methods.cluster.scan import Clustering, Settings, read_neighborhood
    from sslpipe.nets.model_file import card_for, check_data, load_model, save_model, weights_path

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
    network, card = load_model(pretrained)
    check_data(card, store.info, pretrained)
    images = Images(store.images("train"), choose_device(device))
    others = Images(store.images("held_out"), choose_device(device))
    train = read_neighborhood(images, mined / "train", settings, k=settings.neighbors)
    held_out = read_neighborhood(others, mined / "held_out", settings, k=None)
    batches = Batches(images, settings.fit.batch, seed=project.seed, where="cluster.fit.batch")
    checkpoint = Checkpoint.of_stage(
        "cluster",
        settings=[project.seed, settings],
        inputs=[prepared / "store.json", weights_path(pretrained), mined / "train" / "indices.npy"],
        every_seconds=checkpoint_seconds,
    )
    with whole_folder(out) as folder:
        torch.manual_seed(project.seed)
        clustering = Clustering(settings, network, train, held_out).to(images.device)
        history = fit(clustering, batches, settings.fit, where="cluster", seed=project.seed, checkpoint=checkpoint)
        parent = sha256(weights_path(pretrained))
        save_model(folder, clustering.selected(), card_for("cluster", store.info, settings, parent=parent))
        write_csv(folder / "history.csv", history)
    checkpoint.remove()
