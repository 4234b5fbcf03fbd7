"""STL-10 (Coates, Ng and Lee 2011): colour images of 96 x 96 pixels, ten classes, and 100,000 images without a label.

5,000 labelled images are for training, 8,000 for test. The data set has ten folds of 1,000 training images each.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import STL10

from sslpipe.data.store import UNKNOWN
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Range
from sslpipe.preparation.arrays import ArrayFile, ArraySource
from sslpipe.preparation.downloads import Download, ensure

SIDE = 96


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.stl10`."""

    root: str = "data"
    """Folder with stl10_binary/, relative to the working folder."""
    download: bool = False
    """Whether to download the files (2.6 GB) if they are missing."""
    unlabelled: bool = True
    """Whether the 100,000 images without a label are added to the training images."""
    fold: Annotated[int, Range(low=0, high=9)] | None = None
    """Fold whose training images have a label; the others have none. null: all training images have a label. Its size
    has no meaning."""


class Source(ArraySource):
    """The images, memory-mapped: torchvision would keep two copies of all 2.7 GB in memory."""

    def __init__(self, settings: Settings) -> None:
        root = Path(os.path.expanduser(settings.root))
        (train, train_labels, unlabelled), (test, test_labels) = STL10.train_list, STL10.test_list
        listed = [train, train_labels, test, test_labels, *([unlabelled] if settings.unlabelled else [])]
        without_md5 = [STL10.class_names_file, *([STL10.folds_list_file] if settings.fold is not None else [])]
        folder = root / STL10.base_folder
        ensure(
            root,
            {f"{STL10.base_folder}/{name}": md5 for name, md5 in (*listed, *((name, None) for name in without_md5))},
            Download(url=STL10.url, filename=STL10.filename, md5=STL10.tgz_md5, size="2.6 GB", unpack=True),
            where="prepare.stl10",
            fetch=settings.download,
        )
        known = _labels(folder / train_labels[0])
        if settings.fold is not None:
            chosen = _fold(folder / STL10.folds_list_file, settings.fold, count=len(known))
            known[np.setdiff1d(np.arange(len(known)), chosen)] = UNKNOWN
        files = [ArrayFile("train", "train", _images(folder / train[0]), known.tolist())]
        if settings.unlabelled:
            images = _images(folder / unlabelled[0])
            files.append(ArrayFile("unlabeled", "train", images, [UNKNOWN] * len(images)))
        files.append(ArrayFile("test", "test", _images(folder / test[0]), _labels(folder / test_labels[0]).tolist()))
        super().__init__(settings, name="stl10", classes=_classes(folder / STL10.class_names_file), files=files)


def _images(path: Path) -> NDArray[np.uint8]:
    """Memory-map images as [N, 96, 96, 3]; the file has them by channel and then by column."""
    stored = np.memmap(path, np.uint8, mode="r").reshape(-1, 3, SIDE, SIDE)
    return stored.transpose(0, 3, 2, 1)


def _labels(path: Path) -> NDArray[np.int64]:
    """Return labels [N] from 0; in the file they start at 1."""
    return np.fromfile(path, np.uint8).astype(np.int64) - 1


def _classes(path: Path) -> list[str]:
    """Return the ten class names in a file, which has no published checksum."""
    names = path.read_text(encoding="utf-8", errors="replace").split()
    if len(names) != 10:
        raise UserError(f"{path}: {len(names)} class names found, expected 10")
    return names


def _fold(path: Path, fold: int, *, count: int) -> NDArray[np.int64]:
    """Return the indices of a fold's images among the `count` training images, a line of a file without a checksum."""
    lines = path.read_bytes().splitlines()
    try:
        chosen = np.array([int(number) for number in lines[fold].split()], np.int64)
    except (IndexError, ValueError):
        raise UserError(f"{path}: no line of integers found for fold {fold}, expected ten lines") from None
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= count:
        raise UserError(f"{path} line {fold + 1}: expected indices of images, each at least 0 and below {count}")
    return chosen
