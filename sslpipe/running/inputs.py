"""What every training stage opens, and what it makes of that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.store import Store
from sslpipe.io.params import Params
from sslpipe.metrics.merge_tree import Tree
from sslpipe.nets.network import Network
from sslpipe.running.levels import Levels


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every training stage opens."""

    project: Params
    stage: str
    method: str
    where: str
    """The params key of the method's settings."""
    settings: Any
    """The method's."""
    store: Store
    images: Images
    """The training images, on the device."""


@dataclass(frozen=True)
class Choice:
    """The network that becomes a stage's result."""

    network: Network
    """The one that the method has selected, or another one; the method's is then written to the folder `trained`."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Written to model.json besides the settings."""
    tree: Tree | None = None
    """The merge tree of another network's groups."""


Choose = Callable[[Path, Network, Tensor | None], Choice]
"""A function of the output folder, a method's network, and its outputs for the training images if they are known."""


@dataclass(frozen=True, kw_only=True)
class OpenedProblem:
    """The problem of a method, and what identifies it in the checkpoint's key and in model.json."""

    problem: Any
    started_from: Path | None = None
    """Folder of the model whose weights the method starts from."""
    cache_key: Sequence[Any] = ()
    """What else the result depends on, beside seed, settings, start and files: a part of the checkpoint's key. Values
    have a faithful repr."""
    files_read: Sequence[Path] = ()
    """Further files that the result depends on, for the checkpoint's key and for model.json."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Written to model.json besides the settings."""
    labelled: LabelledImages | None = None
    """Given for a method that learns on pairs of a labelled and an unlabelled batch."""
    classes: tuple[str, ...] = ()
    """Class of each of the model's outputs; empty for a model that predicts clusters or nothing."""
    levels: Levels | None = None
    """Given if the model predicts clusters."""
    choose: Choose | None = None
    """Chooses the result after training; None: the network that the method selects."""
