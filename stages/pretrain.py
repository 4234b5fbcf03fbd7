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
    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params, find_module
    from sslpipe.methods.pretext.task import WATCH, Task
    from sslpipe.methods.training import Training
    from sslpipe.methods.watch import read_watch
    from sslpipe.nets.network import BackboneSettings

    package = "sslpipe.methods.pretrain"
    project = Params(params)
    project.override({"seed": seed, "pretrain.method": method}, assignments, stage="pretrain")
    name = project.method("pretrain", package, also=["watch"])
    where = f"pretrain.{name}"
    project.override({f"{where}.fit.epochs": epochs, f"{where}.fit.batch": batch})
    module = find_module(package, name, where="pretrain.method")
    settings = project.parse(module.Settings, where)
    backbone = project.parse(BackboneSettings, "network")

    store = Store(prepared)
    images = Images(store.images("train"), choose_device(device))
    labels = project.choice("pretrain.watch", WATCH) == "held_out"
    watch = read_watch(store, images.device, labels=labels)
    training = Training(
        stage="pretrain",
        out=out,
        where=where,
        store=store,
        images=images,
        seed=project.seed,
        decides=[name, backbone, labels],
        facts={"method": name},
        checkpoint_seconds=checkpoint_seconds,
    )
    training.train(lambda: module.Pretext(settings, Task(backbone, store.info, images, watch)), settings)
