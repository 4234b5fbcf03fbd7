"""What every training stage opens, and what it makes of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import Store
from sslpipe.io.params import Params


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every training stage opens."""

    project: Params
    stage: str
    method: str
    settings: Any
    """The method's."""
    store: Store
    images: Images
    """The training images, on the device."""


@dataclass(frozen=True, kw_only=True)
class OpenedProblem:
    """The problem of a method, and what identifies it in the checkpoint's key and in model.json (see TrainingRun)."""

    problem: Any
    started_from: Path | None = None
    cache_key: Sequence[Any] = ()
    inputs: Sequence[Path] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labelled: LabelledImages | None = None
