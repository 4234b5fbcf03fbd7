"""What every training stage does: train a method, going on from its checkpoint, and write the model that it selects."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch

from sslpipe.data.batches import Batches
from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import FitSettings, fit
from sslpipe.io.files import sha256, whole_folder, write_csv
from sslpipe.nets.model_file import card_for, save_model, weights_path


class MethodSettings(Protocol):
    """A method's frozen dataclass of settings."""

    @property
    def fit(self) -> FitSettings:
        """How long and how fast it learns."""


def train_stage(
    stage: str,
    out: Path,
    build: Callable[[], Any],
    *,
    settings: MethodSettings,
    where: str,
    store: Store,
    images: Images,
    seed: int,
    started_from: Path | None = None,
    decides: Iterable[Any] = (),
    inputs: Iterable[Path] = (),
    checkpoint_seconds: float,
) -> None:
    """Write model.safetensors, model.json and history.csv to `out`, whole or not at all.

    build: draws the method's start values; it is a Method with `selected() -> Network`. where: the params key of
    `settings`. started_from: folder of the model whose weights it takes up. decides, inputs: further settings and files
    that the result hangs on, for the checkpoint's key.
    """
    batches = Batches(images, settings.fit.batch, seed=seed, where=f"{where}.fit.batch")
    parent = sha256(weights_path(started_from)) if started_from else None
    checkpoint = Checkpoint.of_stage(
        stage,
        settings=[seed, settings, parent, *decides],
        inputs=[store.root / "store.json", *inputs],
        every_seconds=checkpoint_seconds,
    )
    # The folder is opened first: one that cannot be written to is known before hours of work.
    with whole_folder(out) as folder:
        torch.manual_seed(seed)
        method = build().to(images.device)
        history = fit(method, batches, settings.fit, where=where, seed=seed, checkpoint=checkpoint)
        save_model(folder, method.selected(), card_for(stage, store.info, settings, parent=parent))
        write_csv(folder / "history.csv", history)
    checkpoint.remove()
