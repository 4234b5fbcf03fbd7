"""CIFAR-100 (Krizhevsky 2009): 60,000 colour images of 32 x 32 pixels, of 100 classes in 20 super-classes.

50,000 images are for training, 10,000 for test. CIFAR100-20 in the paper of SCAN (Van Gansbeke et al. 2020,
arXiv:2005.12320) has the super-classes as classes.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torchvision.datasets import CIFAR100

from sslpipe.preparation.arrays import ArrayFile, ArraySource
from sslpipe.preparation.downloads import old_pickles, read_verified
from sslpipe.sources._cifar import read


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
        train, test = read(CIFAR100, settings.root, name="cifar100", size="169 MB", download=settings.download)
        classes: Sequence[str] = train.classes
        labels = [train.targets, test.targets]
        if settings.classes == "coarse":  # not read by torchvision
            folder = Path(train.root) / CIFAR100.base_folder
            classes = _unpickled(folder, CIFAR100.meta["filename"], CIFAR100.meta["md5"])["coarse_label_names"]
            listed = (*CIFAR100.train_list, *CIFAR100.test_list)
            labels = [_unpickled(folder, name, md5)["coarse_labels"] for name, md5 in listed]
        super().__init__(
            settings,
            name="cifar100",
            classes=classes,
            files=[
                ArrayFile("train", "train", train.data, labels[0]),
                ArrayFile("test", "test", test.data, labels[1]),
            ],
        )


def _unpickled(folder: Path, name: str, md5: str) -> dict[str, Any]:
    """Return the content of a file; only the published file is unpickled."""
    with old_pickles():
        content: dict[str, Any] = pickle.loads(read_verified(folder / name, md5), encoding="latin1")
    return content
