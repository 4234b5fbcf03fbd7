"""SVHN (Netzer et al. 2011): digits of house numbers, cropped, colour, 32 x 32 pixels.

73,257 images are for training, 26,032 for test; 531,131 additional images are easier.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets import SVHN

from sslpipe.preparation.arrays import ArrayFile, ArraySource
from sslpipe.preparation.downloads import Download, ensure

SIZE = {"train": "182 MB", "test": "64 MB", "extra": "1.3 GB"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.svhn`."""

    root: str = "data"
    """Folder with train_32x32.mat and test_32x32.mat, relative to the working folder."""
    download: bool = False
    """Whether to download the files (246 MB, with extra 1.6 GB) if they are missing."""
    extra: bool = False
    """Whether the additional images are added to the training images."""


class Source(ArraySource):
    """The images as read by torchvision, in the order of the files; class d is the digit d."""

    def __init__(self, settings: Settings) -> None:
        root = Path(os.path.expanduser(settings.root))
        splits = ("train", *(["extra"] if settings.extra else []), "test")
        for split in splits:
            url, name, md5 = SVHN.split_list[split]
            ensure(
                root,
                {name: md5},
                Download(url=url, filename=name, md5=md5, size=SIZE[split], unpack=False),
                where="prepare.svhn",
                fetch=settings.download,
            )
        files = []
        for split in splits:
            data = SVHN(root, split=split)
            images = data.data.transpose(0, 2, 3, 1)
            files.append(ArrayFile(split, "test" if split == "test" else "train", images, data.labels.tolist()))
        super().__init__(settings, name="svhn", classes=[str(digit) for digit in range(10)], files=files)
