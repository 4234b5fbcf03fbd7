"""A model → a classifier: its features alone, or its last touches."""

from pathlib import Path
from typing import Annotated

import typer

from sslpipe.io import options


def finetune(
    method: Annotated[str, typer.Option(help="A method by name; 'dvc repro' runs those of finetune.methods.")],
    start: Annotated[
        str | None, typer.Option(help="Start from pretrain, self-label, semisup/<method>, ... (params: methods).")
    ] = None,
    epochs: options.Epochs = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    prepared: options.Prepared = Path("runs/prepare"),
    runs: options.Runs = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default runs/finetune/<method>.")] = None,
    device: options.Device = "auto",
    checkpoint_seconds: options.CheckpointSeconds = 20.0,
    params: options.ParamsPath = Path("params.yaml"),
    assignments: options.Assignments = None,
) -> None:
    """Fit a classifier to a model's features, or fine-tune the model with the few labels."""
    from sslpipe.data.device import choose_device
    from sslpipe.data.images import Images
    from sslpipe.data.labelled import read_labelled
    from sslpipe.data.store import Store
    from sslpipe.io.params import Params, find_module, siblings
    from sslpipe.methods.parts.starts import start_network
    from sslpipe.methods.parts.task import Entry, Task, read_watch
    from sslpipe.methods.training import Training
    from sslpipe.nets.network import BackboneSettings

    package = "sslpipe.methods.finetune"
    module = find_module(package, method, where="--method")
    where, entry_key = f"finetune.{method}", f"finetune.methods.{method}"
    project = Params(params)
    project.override(
        {"seed": seed, f"{entry_key}.start": start, f"{where}.fit.epochs": epochs, f"{where}.fit.batch": batch},
        assignments,
        stage=where,
    )
    project.check_keys("finetune", ["methods", *siblings(package)])
    entry = project.parse(Entry, entry_key)
    settings = project.parse(module.Settings, where)
    backbone = project.parse(BackboneSettings, "network")

    store = Store(prepared)
    images = Images(store.images("train"), choose_device(device))
    labelled = read_labelled(store, images)
    started_from = entry.folder(runs)
    network = start_network(started_from, backbone, store.info, labelled)
    training = Training(
        stage="finetune",
        out=out or runs / "finetune" / method,
        where=where,
        store=store,
        images=images,
        seed=project.seed,
        started_from=started_from,
        decides=[method, entry, backbone],
        inputs=store.labelled_files(),
        facts={"method": method, "start": entry.start, "labels": len(labelled)},
        checkpoint_seconds=checkpoint_seconds,
    )
    task = Task(network.to(images.device), labelled, read_watch(store, images.device))
    module.tune(settings, task, training)
