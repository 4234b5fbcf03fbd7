"""CIFAR-10 (Krizhevsky 2009): 60,000 colour images of 32 x 32 pixels in ten classes.

50,000 images are for training, 10,000 for test.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets import CIFAR10

from sslpipe.data.arrays import ArrayFile, ArraySource
from sslpipe.data.downloads import Download, ensure, old_pickles


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.cifar10`."""

    root: str = "data"
    """Folder with cifar-10-batches-py/, relative to the working folder."""
    download: bool = False
    """Whether to download the files (170 MB) if they are missing."""


class Source(ArraySource):
    """The images as read by torchvision, in the order of the files."""

    def __init__(self, settings: Settings) -> None:
        root = Path(os.path.expanduser(settings.root))
        listed = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
        ensure(
            root,
            {f"{CIFAR10.base_folder}/{name}": md5 for name, md5 in listed},
            Download(url=CIFAR10.url, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5, size="170 MB", unpack=True),
            where="prepare.cifar10",
            fetch=settings.download,
        )
        with old_pickles():
            train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
        super().__init__(
            settings,
            name="cifar10",
            classes=train.classes,
            files=[
                ArrayFile("train", "train", train.data, train.targets),
                ArrayFile("test", "test", test.data, test.targets),
            ],
        )
