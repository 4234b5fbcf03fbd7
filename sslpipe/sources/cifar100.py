"""CIFAR-100 (Krizhevsky 2009): 60,000 colour images of 32 x 32 pixels, of 100 classes in 20 super-classes.

50,000 images are for training, 10,000 for test. CIFAR100-20 in the paper of SCAN (Van Gansbeke et al. 2020,
arXiv:2005.12320) has the super-classes as classes.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torchvision.datasets import CIFAR100

from sslpipe.data.arrays import ArrayFile, ArraySource
from sslpipe.data.downloads import Download, ensure, old_pickles, read_verified


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.cifar100`."""

    root: str = "data"
    """Folder with cifar-100-python/, relative to the working folder."""
    download: bool = False
    """Whether to download the files (169 MB) if they are missing."""
    classes: Literal["fine", "coarse"] = "fine"
    """fine: the 100 classes. coarse: the 20 super-classes."""


class Source(ArraySource):
    """The images as read by torchvision, in the order of the files."""

    def __init__(self, settings: Settings) -> None:
        root = Path(os.path.expanduser(settings.root))
        (train_file,), (test_file,), meta_file = CIFAR100.train_list, CIFAR100.test_list, _meta_file()
        ensure(
            root,
            {f"{CIFAR100.base_folder}/{name}": md5 for name, md5 in (train_file, test_file, meta_file)},
            Download(url=CIFAR100.url, filename=CIFAR100.filename, md5=CIFAR100.tgz_md5, size="169 MB", unpack=True),
            where="prepare.cifar100",
            fetch=settings.download,
        )
        with old_pickles():
            train, test = CIFAR100(root, train=True), CIFAR100(root, train=False)
        classes: Sequence[str] = train.classes
        labels = [train.targets, test.targets]
        if settings.classes == "coarse":  # not read by torchvision
            classes = _unpickled(root, meta_file)["coarse_label_names"]
            labels = [_unpickled(root, file)["coarse_labels"] for file in (train_file, test_file)]
        super().__init__(
            settings,
            name="cifar100",
            classes=classes,
            files=[
                ArrayFile("train", "train", train.data, labels[0]),
                ArrayFile("test", "test", test.data, labels[1]),
            ],
        )


def _meta_file() -> tuple[str, str]:
    return CIFAR100.meta["filename"], CIFAR100.meta["md5"]


def _unpickled(root: Path, file: Sequence[str]) -> dict[str, Any]:
    """Return the content of a file, given by name and md5; only the published file is unpickled."""
    name, md5 = file
    with old_pickles():
        content: dict[str, Any] = pickle.loads(
            read_verified(root / CIFAR100.base_folder / name, md5), encoding="latin1"
        )
    return content
