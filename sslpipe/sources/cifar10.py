"""CIFAR-10 (Krizhevsky 2009): 60,000 colour images of 32 x 32 pixels in ten classes.

50,000 images are for training, 10,000 for test.
"""

from dataclasses import dataclass

from torchvision.datasets import CIFAR10

from sslpipe.preparation.arrays import ArrayFile, ArraySource
from sslpipe.sources._cifar import read


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
        train, test = read(CIFAR10, settings.root, name="cifar10", size="170 MB", download=settings.download)
        super().__init__(
            settings,
            name="cifar10",
            classes=train.classes,
            files=[
                ArrayFile("train", "train", train.data, train.targets),
                ArrayFile("test", "test", test.data, test.targets),
            ],
        )
