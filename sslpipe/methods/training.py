"""What every training stage does: train a method, going on from its checkpoint, and write the model that it selects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from sslpipe.data.batches import Batches, Stream
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledBatches, LabelledImages, PairedBatches
from sslpipe.data.store import Store
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import FitSettings, fit
from sslpipe.io.files import sha256, whole_folder, write_csv
from sslpipe.nets.model_file import card_for, save_model, weights_path
from sslpipe.nets.network import Network


class MethodSettings(Protocol):
    """A method's frozen dataclass of settings; with labels, it also has `labelled_batch`."""

    @property
    def fit(self) -> FitSettings | None:
        """How long and how fast it learns; None: it is finished as it is built."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A stage's run: model.safetensors, model.json and history.csv in `out`, whole or not at all."""

    stage: str
    out: Path
    where: str
    """The params key of the method's settings."""
    store: Store
    images: Images
    """The training images."""
    seed: int
    started_from: Path | None = None
    """Folder of the model whose weights it takes up."""
    decides: Sequence[Any] = ()
    """Further settings that the result hangs on, for the checkpoint's key; with a faithful repr."""
    inputs: Sequence[Path] = ()
    """Further files of that kind."""
    classes: tuple[str, ...] = ()
    """What the outputs stand for, if they are classes."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What model.json shall also say of the settings."""
    checkpoint_seconds: float

    def train(
        self, build: Callable[[], Any], settings: MethodSettings, *, labelled: LabelledImages | None = None
    ) -> None:
        """Train what `build` makes: a Method with `selected() -> Network`, its start values drawn there.

        labelled: given for methods that learn on pairs of a labelled and an unlabelled batch.
        """
        if settings.fit is None:
            method = build().to(self.images.device)
            self.write(method.selected(), settings, [method.after_epoch({})])
            return
        every = Batches(self.images, settings.fit.batch, seed=self.seed, where=f"{self.where}.fit.batch")
        batches: Stream = every
        if labelled is not None:
            size = settings.labelled_batch  # type: ignore[attr-defined]
            batches = PairedBatches(every, LabelledBatches(labelled, size, seed=self.seed))
        checkpoint = Checkpoint.of_stage(
            self.stage,
            settings=[self.seed, settings, self._parent(), *self.decides],
            inputs=[self.store.root / "store.json", *self.inputs],
            every_seconds=self.checkpoint_seconds,
        )
        # The folder is opened first: one that cannot be written to is known before hours of work.
        with whole_folder(self.out) as folder:
            torch.manual_seed(self.seed)
            method = build().to(self.images.device)
            history = fit(method, batches, settings.fit, where=self.where, seed=self.seed, checkpoint=checkpoint)
            self._fill(folder, method.selected(), settings, history)
        checkpoint.remove()

    def write(self, network: Network, settings: Any, history: Sequence[Mapping[str, Any]]) -> None:
        """Write a model that needed no steps."""
        with whole_folder(self.out) as folder:
            self._fill(folder, network, settings, history)

    def _fill(self, folder: Path, network: Network, settings: Any, history: Sequence[Mapping[str, Any]]) -> None:
        settings = {**self.facts, **asdict(settings)}
        card = card_for(
            self.stage, self.store.info, settings, parent=self._parent(), inputs=self.inputs, classes=self.classes
        )
        save_model(folder, network, card)
        write_csv(folder / "history.csv", history)

    def _parent(self) -> str | None:
        return sha256(weights_path(self.started_from)) if self.started_from else None
