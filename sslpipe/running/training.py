"""Training a method from its checkpoint and writing the model that it selects."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sslpipe.data.batches import Batches, Stream
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledBatches, LabelledImages, PairedBatches
from sslpipe.data.store import Store
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import fit
from sslpipe.io.files import atomic_folder, sha256, write_csv
from sslpipe.nets.model_file import card_for, save_model, weights_path


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Where a method's images come from, where its model goes, and what identifies the run."""

    stage: str
    where: str
    """The params key of the method's settings."""
    out: Path
    """Receives model.safetensors, model.json and history.csv, all of them or none."""
    store: Store
    images: Images
    """The training images."""
    labelled: LabelledImages | None = None
    """Given for a method that learns on pairs of a labelled and an unlabelled batch."""
    seed: int
    started_from: Path | None = None
    """Folder of the model whose weights the method starts from."""
    cache_key: Sequence[Any] = ()
    """Further settings that the result depends on, for the checkpoint's key; with a faithful repr."""
    inputs: Sequence[Path] = ()
    """Further files that the result depends on."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Written to model.json besides the settings."""
    checkpoint_seconds: float

    def train(self, method: Any, settings: Any) -> None:
        """Train a method and write the network that it selects.

        method: on the device of the images, with `selected() -> Network`. settings: the method's, with `fit`; None
        there says that the method is complete as it is built.
        """
        if settings.fit is None:
            with atomic_folder(self.out) as folder:
                self._write(folder, method, settings, [method.after_epoch({})])
            return
        every = Batches(self.images, settings.fit.batch, seed=self.seed, where=f"{self.where}.fit.batch")
        batches: Stream = every
        if self.labelled is not None:
            labelled = LabelledBatches(self.labelled, settings.labelled_batch, seed=self.seed)
            batches = PairedBatches(every, labelled)
        checkpoint = Checkpoint.of_stage(
            self.stage,
            settings=[self.seed, settings, self._parent(), *self.cache_key],
            inputs=[self.store.root / "store.json", *self.inputs],
            every_seconds=self.checkpoint_seconds,
        )
        # The folder is opened first, so that one that cannot be written to fails before hours of work.
        with atomic_folder(self.out) as folder:
            history = fit(method, batches, settings.fit, where=self.where, seed=self.seed, checkpoint=checkpoint)
            self._write(folder, method, settings, history)
        checkpoint.remove()

    def _write(self, folder: Path, method: Any, settings: Any, history: Sequence[Mapping[str, Any]]) -> None:
        card = card_for(
            self.stage,
            self.store.info,
            {**self.metadata, **asdict(settings)},
            parent=self._parent(),
            inputs=self.inputs,
            classes=self.labelled.names if self.labelled else (),
        )
        save_model(folder, method.selected(), card)
        write_csv(folder / "history.csv", history)

    def _parent(self) -> str | None:
        return sha256(weights_path(self.started_from)) if self.started_from else None
