"""What CIFAR-10 and CIFAR-100 share: the files of a data set, as read by torchvision."""

import os
from pathlib import Path

from torchvision.datasets import CIFAR10

from sslpipe.preparation.downloads import Download, ensure, old_pickles


def read(dataset: type[CIFAR10], root: str, *, name: str, size: str, download: bool) -> tuple[CIFAR10, CIFAR10]:
    """Return the training and the test part of a data set, whose class CIFAR100 inherits from CIFAR10.

    root, download: as in the settings. name: the source's name. size: that of the download, for messages.
    """
    folder = Path(os.path.expanduser(root))
    listed = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    ensure(
        folder,
        {f"{dataset.base_folder}/{file}": md5 for file, md5 in listed},
        Download(url=dataset.url, filename=dataset.filename, md5=dataset.tgz_md5, size=size, unpack=True),
        where=f"prepare.{name}",
        fetch=download,
    )
    with old_pickles():
        return dataset(folder, train=True), dataset(folder, train=False)
