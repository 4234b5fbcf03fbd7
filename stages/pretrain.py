"""Images → a backbone that knows them."""

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
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Train a backbone on a pretext task, without labels."""
    import torch

    from sslpipe.data.batches import Batches
    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import Store
    from sslpipe.engine.checkpoint import Checkpoint
    from sslpipe.engine.loop import fit
    from sslpipe.io.files import whole_folder, write_csv
    from sslpipe.io.params import Params, find_module
    from sslpipe.nets.model_file import card_for, save_model
    from sslpipe.nets.network import BackboneSettings, build_network

    package = "sslpipe.methods.pretrain"
    project = Params(params)
    project.override({"seed": seed, "pretrain.method": method})
    name = project.method("pretrain", package)
    where = f"pretrain.{name}"
    project.override({f"{where}.fit.epochs": epochs, f"{where}.fit.batch": batch}, assignments, stage="pretrain")
    module = find_module(package, name, where="pretrain.method")
    settings = project.parse(module.Settings, where)
    backbone = project.parse(BackboneSettings, "network")

    store = Store(prepared)
    images = Images(store.images("train"), choose_device(device))
    batches = Batches(images, settings.fit.batch, seed=project.seed, where=f"{where}.fit.batch")
    checkpoint = Checkpoint.of_stage(
        "pretrain",
        settings=[project.seed, backbone, settings],
        inputs=[prepared / "store.json"],
        every_seconds=checkpoint_seconds,
    )
    with whole_folder(out) as folder:
        torch.manual_seed(project.seed)
        pretext = module.Pretext(settings, build_network(backbone, store.info), images).to(images.device)
        history = fit(pretext, batches, settings.fit, where=where, seed=project.seed, checkpoint=checkpoint)
        save_model(folder, pretext.network, card_for("pretrain", store.info, settings, parent=None))
        write_csv(folder / "history.csv", history)
    checkpoint.remove()
