"""The image store that prepare writes: uint8 images, labels where known, splits, statistics, a fingerprint."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array, read_json
from sslpipe.io.settings import parse
from sslpipe.io.version import UNKNOWN as UNKNOWN_VERSION

Split = Literal["train", "held_out", "test"]
SPLITS: tuple[Split, ...] = ("train", "held_out", "test")
ProtocolName = Literal["split", "full"]
PROTOCOLS: tuple[ProtocolName, ...] = ("split", "full")
UNKNOWN = -1
"""The label of an image whose class is not known."""


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """store.json: what holds for all images of the store."""

    size: int
    """Side of the square images, pixels."""
    channels: int
    """1 grey, 3 colour."""
    mean: tuple[float, ...]
    """Per channel, over all pixels of the training images, in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, over all pixels of the training images, in [0, 1]; 1 for a channel that never changes, since
    images are divided by it."""
    train: int
    held_out: int
    test: int
    """Number of images in each split."""
    protocol: ProtocolName
    """split: trained on train, scored on test. full: there is no test; trained and scored on train and held_out."""
    fingerprint: str
    """sha256 over all images, in order of splits."""
    version: str = UNKNOWN_VERSION
    """Of sslpipe, which wrote the store."""

    def count(self, split: Split) -> int:
        """Number of images in a split."""
        return {"train": self.train, "held_out": self.held_out, "test": self.test}[split]


class Store:
    """Read access to a store; images are mapped, not loaded."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = parse(StoreInfo, read_json(root / "store.json"), where=str(root / "store.json"))

    def images(self, split: Split) -> NDArray[np.uint8]:
        """[N, C, H, W] uint8."""
        shape = (self.info.count(split), self.info.channels, self.info.size, self.info.size)
        return self._array(split, "images.npy", shape, np.uint8)

    def labels(self, split: Split) -> NDArray[np.int64]:
        """[N] int64, UNKNOWN (-1) where there is none."""
        return self._array(split, "labels.npy", (self.info.count(split),), np.int64)

    def scored(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images [N, C, H, W] and labels [N] that figures are of: test, or all under the protocol full.

        For evaluate alone: no other stage may look at test images.
        """
        splits: tuple[Split, ...] = ("test",) if self.info.protocol == "split" else ("train", "held_out")
        if not sum(self.info.count(split) for split in splits):
            raise UserError(f"{self.root}: no test images; raise prepare.test or set protocol: full")
        images = [self.images(split) for split in splits]
        labels = [self.labels(split) for split in splits]
        return (images[0], labels[0]) if len(splits) == 1 else (np.concatenate(images), np.concatenate(labels))

    def files(self, split: Split) -> list[str]:
        """Where each image came from, N names."""
        return list(read_json(self.root / split / "files.json"))

    def labelled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The images whose label a method may use: [L] int64 indices into train, ascending, and [L] int64 classes.

        In files of their own, so that a method that uses few labels need not open the file that holds the hidden ones.
        """
        index_path, label_path = self.labelled_files()
        index = _whole_numbers(index_path, below=self.info.train)
        label = _whole_numbers(label_path, below=len(self.classes))
        if len(index) != len(label) or (np.diff(index) <= 0).any():
            raise UserError(
                f"{index_path.parent}: {len(index)} in index.npy and {len(label)} in label.npy found, expected "
                "ascending indices and a label for each; run 'sslpipe prepare' again"
            )
        return index, label

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their labels; empty where no image has a label.

        Beside the labels that a method may see, not in store.json: naming a class repeats no training without labels.
        """
        return tuple(read_json(self.root / "labelled" / "classes.json"))

    def labelled_files(self) -> tuple[Path, Path]:
        """Which images, and their labels."""
        folder = self.root / "labelled"
        return folder / "index.npy", folder / "label.npy"

    def _array(self, split: str, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        path = self.root / split / name
        array = read_array(path, mapped=True) if shape[0] else np.zeros(shape, dtype)
        if array.shape != shape or array.dtype != dtype:
            raise UserError(
                f"{path}: {array.dtype} {list(array.shape)} found, store.json says {np.dtype(dtype)} {list(shape)}; "
                "run 'sslpipe prepare' again"
            )
        return array


def _whole_numbers(path: Path, *, below: int) -> NDArray[np.int64]:
    """An array of int64 [L], each at least 0; UserError where it is none."""
    array = read_array(path)
    if array.dtype != np.int64 or array.ndim != 1:
        found = f"{array.dtype} {list(array.shape)}"
    elif len(outside := array[(array < 0) | (array >= below)]):
        found = str(outside[0])
    else:
        return array
    raise UserError(
        f"{path}: {found} found, expected int64 [L], each at least 0 and below {below}; run 'sslpipe prepare' again"
    )
