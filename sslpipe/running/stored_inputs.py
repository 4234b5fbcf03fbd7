"""Stored features and mined neighbours, for the methods with few labels that read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import Store
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array, read_json
from sslpipe.running.features import open_features

AGAIN = "run the stage mine-neighbors again"


@dataclass(frozen=True)
class StoredInputs:
    """What the stages features and mine-neighbors have written."""

    features: NDArray[np.float16]
    """[N, D], memory-mapped, of the training images."""
    held_out_features: NDArray[np.float16]
    """[M, D], memory-mapped, of the held-out images."""
    neighbors: NDArray[np.int64]
    """[N, k], the mined neighbours of each training image, the nearest first."""
    similarities: NDArray[np.float32]
    """[N, k], their cosines."""
    files: Sequence[Path]
    """Files that identify what was read."""


def open_stored_inputs(featured: Path, mined: Path, store: Store, model: Path) -> StoredInputs:
    """Return the features of a model's backbone and the neighbours that were mined in them.

    featured, mined: folders of the stages features and mine-neighbors. model: folder of a model with that backbone.
    Raises UserError for features of another backbone, for neighbours of other images or of another model than the
    features, and for files of another form.
    """
    stored = open_features(featured, store, model)
    cards = {folder: read_json(folder / "card.json") for folder in (mined, featured)}
    for key, whose in (("data", "the store's"), ("parent", "that of the features' model")):
        found, expected = (str(cards[folder].get(key)) for folder in (mined, featured))
        if found != expected:
            raise UserError(
                f"{mined / 'card.json'}: {key}: {found[:12]} found, expected {expected[:12]}, {whose}; {AGAIN}"
            )
    neighbors, similarities = (read_array(mined / "train" / f"{name}.npy") for name in ("indices", "similarities"))
    count = store.info.train
    for name, array, kind in (("indices", neighbors, np.int64), ("similarities", similarities, np.float32)):
        if array.ndim != 2 or array.shape != (count, neighbors.shape[-1]) or array.dtype != kind:
            found = f"{array.dtype} {list(array.shape)}"
            expected = f"{np.dtype(kind)} [{count}, {neighbors.shape[-1]}]"
            raise UserError(f"{mined / 'train' / f'{name}.npy'}: {found} found, expected {expected}; {AGAIN}")
    if not 0 <= neighbors.min() <= neighbors.max() < count or not np.isfinite(similarities).all():
        raise UserError(
            f"{mined / 'train'}: indices from {neighbors.min()} to {neighbors.max()} found, expected those of {count} "
            f"images, with finite similarities; {AGAIN}"
        )
    return StoredInputs(
        stored.split("train"),
        stored.split("held_out"),
        neighbors,
        similarities,
        [
            stored.card,
            *(mined / "train" / f"{name}.npy" for name in ("indices", "similarities")),
        ],
    )
