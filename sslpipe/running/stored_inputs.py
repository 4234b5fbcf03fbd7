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
    neighbors, similarities = read_mined(mined, store)
    found, expected = (str(read_json(folder / "card.json").get("parent")) for folder in (mined, featured))
    if found != expected:
        raise UserError(
            f"{mined / 'card.json'}: parent: {found[:12]} found, expected {expected[:12]}, that of the features' "
            f"model; {AGAIN}"
        )
    return StoredInputs(
        stored.split("train"),
        stored.split("held_out"),
        neighbors,
        similarities,
        [stored.card, *mined_files(mined)],
    )


def mined_files(mined: Path) -> list[Path]:
    """Return the files of the training images' neighbours and of their cosines in the folder of mine-neighbors."""
    return [mined / "train" / f"{name}.npy" for name in ("indices", "similarities")]


def read_mined(mined: Path, store: Store) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the mined neighbours of the training images and their cosines, both [N, k], the nearest first.

    Raises UserError for neighbours of other images, and for files of another form.
    """
    found, expected = str(read_json(mined / "card.json").get("data")), store.info.fingerprint
    if found != expected:
        raise UserError(
            f"{mined / 'card.json'}: data: {found[:12]} found, expected {expected[:12]}, the store's; {AGAIN}"
        )
    neighbors, similarities = map(read_array, mined_files(mined))
    count = store.info.train
    for path, array, kind in zip(mined_files(mined), (neighbors, similarities), (np.int64, np.float32), strict=True):
        if array.ndim != 2 or array.shape != (count, neighbors.shape[-1]) or array.dtype != kind:
            form = f"{array.dtype} {list(array.shape)}"
            wanted = f"{np.dtype(kind)} [{count}, {neighbors.shape[-1]}]"
            raise UserError(f"{path}: {form} found, expected {wanted}; {AGAIN}")
    if not 0 <= neighbors.min() <= neighbors.max() < count or not np.isfinite(similarities).all():
        raise UserError(
            f"{mined / 'train'}: indices from {neighbors.min()} to {neighbors.max()} found, expected those of {count} "
            f"images, with finite similarities; {AGAIN}"
        )
    return neighbors, similarities
