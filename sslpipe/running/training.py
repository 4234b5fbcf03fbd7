"""Training a method from its checkpoint and writing the model that it selects."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sslpipe.data.batches import Batches
from sslpipe.data.labelled import LabelledBatches, PairedBatches, Stream
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import fit
from sslpipe.io.files import atomic_folder, sha256, write_csv
from sslpipe.nets.model_file import card_for, save_model, weights_path
from sslpipe.running.inputs import Inputs, OpenedProblem


def train(method: Any, inputs: Inputs, opened: OpenedProblem, *, out: Path, checkpoint_seconds: float) -> None:
    """Train a method and write the network that it selects.

    method: on the device of the images, with `selected() -> Network`. inputs.settings has the method's `fit`; None
    there says that the method is complete as it is built. opened.labelled is given for a method that learns on pairs of
    a labelled and an unlabelled batch. out: receives model.safetensors, model.json and history.csv, all or none.
    """
    settings, store, where, seed = inputs.settings, inputs.store, inputs.where, inputs.project.seed
    parent = sha256(weights_path(opened.started_from)) if opened.started_from else None
    checkpoint = Checkpoint.of_stage(
        inputs.stage,
        settings=[seed, settings, parent, *opened.further_settings],
        inputs=[store.root / "store.json", *opened.files_read],
        every_seconds=checkpoint_seconds,
    )
    # The folder is opened first, so that one that cannot be written to fails before hours of work.
    with atomic_folder(out) as folder:
        if settings.fit is None:
            history = [method.after_epoch({})]
        else:
            every = Batches(inputs.images, settings.fit.batch, seed=seed, where=f"{where}.fit.batch")
            batches: Stream = every
            if opened.labelled is not None:
                batches = PairedBatches(every, LabelledBatches(opened.labelled, settings.labelled_batch, seed=seed))
            history = fit(method, batches, settings.fit, where=where, seed=seed, checkpoint=checkpoint)
        card = card_for(
            inputs.stage,
            store.info,
            {**opened.metadata, **asdict(settings)},
            parent=parent,
            inputs=opened.files_read,
            classes=opened.labelled.names if opened.labelled else (),
        )
        save_model(folder, method.selected(), card)
        write_csv(folder / "history.csv", history)
    checkpoint.remove()
