"""The stored features of all images, which the stage features writes and later stages read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.store import Split, Store
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array, read_json
from sslpipe.nets.backbone_fingerprint import backbone_fingerprint

STAGE_CARD = "card.json"
AGAIN = "run the stage features again"
CHECKED = 1 << 20
"""Values that are checked at a time when features are read."""


@dataclass(frozen=True)
class StoredFeatures:
    """The features that the stage has written."""

    folder: Path
    """Output folder of the stage."""
    store: Store
    """The images that the features are of."""
    dimension: int
    """D, the length of a feature vector."""
    backbone: str
    """Fingerprint of the backbone."""
    parts: tuple[int, ...]
    """Lengths of the parts of each vector, one for each network: (D,) for one network."""

    def split(self, split: Split) -> NDArray[np.float16]:
        """Return the features of a split, memory-mapped and read-only, float16 [N, D] in the order of the images.

        Raises UserError for a file that is missing, of another shape or type, or with values that are not finite.
        """
        path, shape = self.path(split), (self.store.info.count(split), self.dimension)
        array = read_array(path, mapped=bool(shape[0]))
        if array.shape != shape or array.dtype != np.float16:
            found = f"{array.dtype} {list(array.shape)}"
            raise UserError(f"{path}: {found} found, expected float16 {list(shape)}; {AGAIN}")
        rows = max(1, CHECKED // self.dimension)
        parts = (array[start : start + rows] for start in range(0, len(array), rows))
        if broken := sum(int((~np.isfinite(part)).any(axis=1).sum()) for part in parts):
            raise UserError(f"{path}: values that are not finite found in {broken} of {len(array)} rows; {AGAIN}")
        array.flags.writeable = False
        return array

    def tensor(self, split: Split, device: torch.device) -> Tensor:
        """Return the features of a split as a tensor, float16 [N, D]; on the CPU it shares the memory-mapped file.

        Raises UserError as `split` does.
        """
        array = self.split(split)
        if device.type == "cpu" and len(array):
            # Copy-on-write, since torch has no read-only tensors.
            return torch.from_numpy(np.load(self.path(split), mmap_mode="c", allow_pickle=False))
        return torch.from_numpy(np.array(array)).to(device)

    def scored(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return the features of the images that are evaluated, of each split in the order of `Store.scored`."""
        return tuple(self.tensor(split, device) for split in self.store.scored_splits)

    def path(self, split: Split) -> Path:
        """Return the path of a split's file."""
        return self.folder / split / "features.npy"

    @property
    def card(self) -> Path:
        """Path of the card, which identifies the features among a stage's inputs."""
        return self.folder / STAGE_CARD


def open_features(folder: Path, store: Store, model: Path) -> StoredFeatures:
    """Return the features in `folder`, an output of the stage.

    model: folder of a model whose backbone has these features: the pretrained one, or one with the same backbone.
    Raises UserError if the stage has not run, or has run with other images or another backbone.
    """
    path = folder / STAGE_CARD
    card = _read_card(path)
    for key, found, expected, of in (
        ("data", card["data"], store.info.fingerprint, f"of {store.root}"),
        ("backbone", card["backbone"], backbone_fingerprint(model), f"of {model}"),
    ):
        if found != expected:
            raise UserError(f"{path}: {key}: {found[:12]} found, expected {expected[:12]}, that {of}; {AGAIN}")
    return StoredFeatures(folder, store, card["dimension"], card["backbone"], tuple(card["parts"]))


def find_features(folder: Path, store: Store, model: Path) -> StoredFeatures | None:
    """Return the features in `folder` if they are those of these images and of the backbone of a model, else None.

    Raises UserError for a file that cannot be read.
    """
    if not (folder / STAGE_CARD).exists():
        return None
    card = _read_card(folder / STAGE_CARD)
    if (card["data"], card["backbone"]) != (store.info.fingerprint, backbone_fingerprint(model)):
        return None
    return StoredFeatures(folder, store, card["dimension"], card["backbone"], tuple(card["parts"]))


def _read_card(path: Path) -> dict[str, Any]:
    """Return the content of a card; raises UserError if it is another one."""
    card = read_json(path)
    keys = {"data": str, "backbone": str, "dimension": int, "parts": list}
    if not isinstance(card, dict) or not all(isinstance(card.get(key), kind) for key, kind in keys.items()):
        raise UserError(f"{path}: not the card of stored features; {AGAIN}")
    return card
