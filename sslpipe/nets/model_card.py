"""model.json: the architecture of a network, and the provenance of its weights."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_json, sha256
from sslpipe.io.settings import Count, Positive, parse
from sslpipe.io.stages import predicts_clusters
from sslpipe.io.version import UNKNOWN, own_version
from sslpipe.nets.heads import HeadSettings
from sslpipe.nets.network import BackboneSettings
from sslpipe.nets.preprocessing import InputSettings


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The part of model.json that describes the network."""

    backbone: BackboneSettings
    head: HeadSettings | None
    mean: tuple[float, ...]
    """Mean of each channel of images in [0, 1]."""
    std: tuple[Positive, ...]
    """Standard deviation of each channel of images in [0, 1]."""
    input: InputSettings | None = None
    """How images are resized and cropped before they are normalised; null: they are not."""
    monitors: tuple[str, ...] = ()
    """Layers that have a linear classifier of their own (LinearMonitors)."""


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """The provenance of a model in model.json, without the settings."""

    stage: str
    """The stage that wrote the model."""
    size: Count
    """Side of the square images, pixels."""
    channels: Count
    """Number of image channels."""
    classes: tuple[str, ...]
    """Class of each of a classifier's outputs; empty for a model without classes."""
    data: str
    """Fingerprint of the image store."""
    parent: str | None
    """sha256 of the weights file that the training started from; null for a training from scratch."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Further files that the stage read, and their sha256."""
    value_range: tuple[float, float] | None = None
    """Values of images of more than 8 bits that become 0 and 255, as in the image store."""
    version: str = UNKNOWN
    """Version of sslpipe that wrote the model."""


@dataclass(frozen=True, kw_only=True)
class ModelCard(_Origin):
    """The provenance of a model: what it was trained on, by which stage and with which settings."""

    settings: Mapping[str, Any]
    """Settings of the stage and its method, as plain values."""

    @property
    def predicts_clusters(self) -> bool:
        """Whether the model's outputs are clusters: that of a cluster stage, or one that has learned groups."""
        return predicts_clusters(self.stage, self.settings)


def card_for(
    stage: str,
    info: StoreInfo,
    settings: Any,
    *,
    parent: str | None,
    inputs: Iterable[Path] = (),
    classes: tuple[str, ...] = (),
) -> ModelCard:
    """Return the card of a model that `stage` trained on the images of a store.

    settings: an instance of a settings class, or a mapping. inputs: further files that the stage read. parent, classes:
    as in ModelCard.
    """
    return ModelCard(
        stage=stage,
        size=info.size,
        channels=info.channels,
        classes=classes,
        data=info.fingerprint,
        value_range=info.value_range,
        parent=parent,
        settings=asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else settings,
        inputs={path.as_posix(): sha256(path) for path in inputs},
        version=own_version(),
    )


def read_card(path: Path) -> tuple[Architecture, ModelCard]:
    """Return both parts of a card; raises UserError for one of another form."""
    content = read_json(path)
    where = str(path)
    if not isinstance(content, dict):
        raise UserError(f"{where}: a {type(content).__name__} found, expected a block of keys")
    architecture = parse(Architecture, content.pop("network", {}), where=f"{where}: network")
    settings = content.pop("settings", None)
    expect(isinstance(settings, dict), path, "settings", repr(settings), "a block of keys")
    origin = parse(_Origin, content, where=where)
    # A network for colour images, with three means, also accepts grey images.
    count = 3 if origin.channels == 1 and len(architecture.mean) == 3 else origin.channels
    for name, values in (("mean", architecture.mean), ("std", architecture.std)):
        expect(len(values) == count, path, name, f"{len(values)} values", f"{count}, as channels")
    return architecture, ModelCard(settings=settings, **{f.name: getattr(origin, f.name) for f in fields(origin)})


def expect(holds: bool, path: Path, what: str, found: str, expected: str) -> None:
    """Raise UserError, naming the file, unless something holds."""
    if not holds:
        raise UserError(f"{path}: {what}: {found} found, expected {expected}; run the stage that writes it again")
