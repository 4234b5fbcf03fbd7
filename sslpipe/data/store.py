"""The image store that prepare writes: images, known labels, splits, pixel statistics and a fingerprint."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.encoded_images import EncodedImages
from sslpipe.data.unread_images import JoinedImages, UnreadImages
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_array, read_json
from sslpipe.io.settings import parse
from sslpipe.io.version import UNKNOWN as UNKNOWN_VERSION

Split = Literal["train", "held_out", "test"]
SPLITS: tuple[Split, ...] = ("train", "held_out", "test")
ProtocolName = Literal["split", "full"]
PROTOCOLS: tuple[ProtocolName, ...] = ("split", "full")
CHOSEN = "chosen.json"
"""File in labelled/ that tells that labelled images were chosen for being worth a label, not drawn at random."""
UNKNOWN = -1
"""The label of an image whose class is not known."""


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """Content of store.json: properties of all images of the store."""

    size: int
    """Height and width of the images, in pixels."""
    channels: int
    """1 (grey) or 3 (colour)."""
    mean: tuple[float, ...]
    """Mean of each channel over all pixels of the training images, in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel over all pixels of the training images, in [0, 1]; 1 for a constant channel,
    because images are divided by it."""
    train: int
    held_out: int
    test: int
    """Number of images in each split."""
    protocol: ProtocolName
    """split: training on train, evaluation on test. full: training on train, evaluation on train and held_out."""
    fingerprint: str
    """SHA-256 of all images, in the order of splits."""
    value_range: tuple[float, float] | None = None
    """Values of images of more than 8 bits that became 0 and 255, as in the setting prepare.value_range."""
    jpeg_quality: int | None = None
    """JPEG quality of the images; None if their pixels are stored as they are."""
    version: str = UNKNOWN_VERSION
    """Version of sslpipe that wrote the store."""

    def count(self, split: Split) -> int:
        """Return the number of images in a split."""
        return {"train": self.train, "held_out": self.held_out, "test": self.test}[split]


class Store:
    """Read access to a store; images are memory-mapped."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = parse(StoreInfo, read_json(root / "store.json"), where=str(root / "store.json"))

    def images(self, split: Split) -> NDArray[np.uint8] | EncodedImages:
        """Return the images of a split, uint8 [N, C, H, W]."""
        image_shape = (self.info.channels, self.info.size, self.info.size)
        if self.info.jpeg_quality is None:
            return self._array(split, "images.npy", (self.info.count(split), *image_shape), np.uint8)
        offsets = self._array(split, "offsets.npy", (self.info.count(split) + 1,), np.int64)
        data = self._array(split, "images.npy", (int(offsets[-1]),), np.uint8)
        if offsets[0] != 0 or (np.diff(offsets) <= 0).any():
            raise UserError(f"{self.root / split / 'offsets.npy'}: not ascending; run 'sslpipe prepare' again")
        return EncodedImages(data, offsets, image_shape, str(self.root / split / "images.npy"))

    def labels(self, split: Split) -> NDArray[np.int64]:
        """Return the labels of a split, int64 [N], UNKNOWN (-1) if there is none."""
        return self._array(split, "labels.npy", (self.info.count(split),), np.int64)

    @property
    def scored_splits(self) -> tuple[Split, ...]:
        """The splits that are evaluated: test, or with protocol full train and held_out."""
        return ("test",) if self.info.protocol == "split" else ("train", "held_out")

    def scored(self) -> tuple[NDArray[np.uint8] | UnreadImages, NDArray[np.int64]]:
        """Return the images [N, C, H, W] and labels [N] for evaluation: those of test, or all with protocol full.

        The images remain in their files, those of two splits as well.

        Only the stage evaluate may use this: no other stage may read test images.
        """
        splits = self.scored_splits
        if not sum(self.info.count(split) for split in splits):
            raise UserError(f"{self.root}: no test images; raise prepare.test or set protocol: full")
        images = [self.images(split) for split in splits]
        labels = [self.labels(split) for split in splits]
        return (images[0], labels[0]) if len(splits) == 1 else (JoinedImages(images), np.concatenate(labels))

    def files(self, split: Split) -> list[str]:
        """Return the origin of each image of a split, N names."""
        return list(read_json(self.root / split / "files.json"))

    def labelled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices of the labelled images in train, int64 [L], ascending, and their classes, int64 [L].

        They have their own files, so that methods with few labels do not read the file with all labels.
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
        """Class names in the order of labels; empty if no image has a label.

        They are stored with the labelled images and not in store.json, so that DVC does not repeat a training without
        labels if a class is renamed.
        """
        return tuple(read_json(self.root / "labelled" / "classes.json"))

    @property
    def labels_chosen(self) -> bool:
        """Whether labelled images were chosen (see `sslpipe ask`), not drawn at random."""
        return (self.root / "labelled" / CHOSEN).exists()

    def labelled_files(self) -> tuple[Path, Path]:
        """Return the paths of the indices of the labelled images and of their labels."""
        folder = self.root / "labelled"
        return folder / "index.npy", folder / "label.npy"

    def _array(self, split: str, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        path = self.root / split / name
        array = read_array(path, mapped=True) if shape[0] else np.zeros(shape, dtype)
        if array.shape != shape or array.dtype != dtype:
            raise UserError(
                f"{path}: {array.dtype} {list(array.shape)} found, expected {np.dtype(dtype)} {list(shape)} as in "
                "store.json; run 'sslpipe prepare' again"
            )
        return array


def _whole_numbers(path: Path, *, below: int) -> NDArray[np.int64]:
    """Read an array int64 [L] of values from 0 to `below` - 1. Raises UserError if it is another array."""
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
