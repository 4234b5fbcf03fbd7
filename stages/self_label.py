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
    import torch

    from sslpipe.data.batches import Batches
    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import Store
    from sslpipe.engine.checkpoint import Checkpoint
    from sslpipe.engine.loop import fit
    from sslpipe.io.files import sha256, whole_folder, write_csv
    from sslpipe.io.params import Params
    from sslpipe.methods.self_label.confident import SelfLabelling, Settings
    from sslpipe.nets.model_file import card_for, check_data, load_model, save_model, weights_path

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
    network, card = load_model(clustered)
    check_data(card, store.info, clustered)
    images = Images(store.images("train"), choose_device(device))
    batches = Batches(images, settings.fit.batch, seed=project.seed, where="self_label.fit.batch")
    checkpoint = Checkpoint.of_stage(
        "self-label",
        settings=[project.seed, settings],
        inputs=[prepared / "store.json", weights_path(clustered)],
        every_seconds=checkpoint_seconds,
    )
    with whole_folder(out) as folder:
        torch.manual_seed(project.seed)
        labelling = SelfLabelling(settings, network, images).to(images.device)
        history = fit(labelling, batches, settings.fit, where="self_label", seed=project.seed, checkpoint=checkpoint)
        parent = sha256(weights_path(clustered))
        save_model(folder, labelling.selected(), card_for("self-label", store.info, settings, parent=parent))
        write_csv(folder / "history.csv", history)
    checkpoint.remove()
