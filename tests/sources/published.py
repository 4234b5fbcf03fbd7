"""Tiny data sets in the published ones' formats on the disk, whose checksums torchvision is made to expect."""

import hashlib
import pickle
import struct

import numpy as np
import scipy.io
from torchvision.datasets import CIFAR10, CIFAR100, STL10, SVHN

RNG = np.random.default_rng(7)
STL10_NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def pictures(count, side):
    """[count, side, side, 3]."""
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


class Python2(pickle._Pickler):
    """Writes bytes as the strings of Python 2, and arrays as numpy did then: so were CIFAR's files made."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, text):
        length = len(text)
        short = length < 256
        self.write(
            (pickle.SHORT_BINSTRING + bytes([length])) if short else pickle.BINSTRING + struct.pack("<i", length)
        )
        self.write(text)

    dispatch[bytes] = save_bytes

    def reducer_override(self, content):
        if isinstance(content, np.ndarray):
            start = (np.ndarray, (0,), b"b")
            state = (1, content.shape, content.dtype, False, content.tobytes())
            return np._core.multiarray._reconstruct, start, state
        if isinstance(content, np.dtype):
            return np.dtype, (b"u1", 0, 1), (3, b"|", None, None, None, -1, -1, 0)
        return NotImplemented


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Python2(file, protocol=2).dump(content)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def rows(images):
    """[N, 32, 32, 3] as CIFAR's [N, 3072]: red, then green, then blue."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def cifar10(root, monkeypatch, each=4):
    """`each` images a batch, five batches and a test batch; returns the images [5 each], [each] and all labels."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    folder = root / "cifar-10-batches-py"
    images = {name: pictures(each, 32) for name in names}
    labels = {name: [(3 * i + j) % 10 for j in range(each)] for i, name in enumerate(names)}
    for name in names:
        files = [b"%d.png" % i for i in range(each)]
        content = {b"batch_label": name.encode(), b"labels": labels[name], b"data": rows(images[name])}
        write_pickle(folder / name, {**content, b"filenames": files})
    meta = {b"num_cases_per_batch": each, b"label_names": [name.encode() for name in CIFAR10_NAMES], b"num_vis": 3072}
    write_pickle(folder / "batches.meta", meta)
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(folder / name)] for name in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(folder / "test_batch")]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(folder / "batches.meta")})
    train = np.concatenate([images[name] for name in names[:5]])
    return train, images["test_batch"], [label for name in names for label in labels[name]]


def cifar100(root, monkeypatch, train=9, test=5):
    """Returns the images of both parts, the fine labels and the coarse ones, train before test."""
    folder = root / "cifar-100-python"
    fine, coarse, images = [], [], []
    for name, count in (("train", train), ("test", test)):
        images.append(pictures(count, 32))
        fine.append(RNG.integers(0, 100, count).tolist())
        coarse.append(RNG.integers(0, 20, count).tolist())
        content = {b"filenames": [b"x.png"] * count, b"batch_label": name.encode(), b"fine_labels": fine[-1]}
        write_pickle(folder / name, {**content, b"coarse_labels": coarse[-1], b"data": rows(images[-1])})
    names = {f"{kind}_label_names": [f"{kind} {i}" for i in range(n)] for kind, n in (("fine", 100), ("coarse", 20))}
    write_pickle(folder / "meta", {key.encode(): [name.encode() for name in names[key]] for key in names})
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5(folder / "meta")})
    return images[0], images[1], fine[0] + fine[1], coarse[0] + coarse[1]


def stl10(root, monkeypatch, train=10, test=4, unlabelled=6, fold_size=3):
    """Returns the images of the three files, all labels (train before test) and the folds."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    counts = {"train": train, "unlabeled": unlabelled, "test": test}
    images = {name: pictures(count, 96) for name, count in counts.items()}
    labels = {name: RNG.integers(0, 10, counts[name]) for name in ("train", "test")}
    for name in counts:
        # A channel after the other, each column by column.
        (folder / f"{name}_X.bin").write_bytes(images[name].transpose(0, 3, 2, 1).tobytes())
    for name in labels:
        (folder / f"{name}_y.bin").write_bytes((labels[name] + 1).astype(np.uint8).tobytes())
    folds = [sorted(RNG.choice(train, fold_size, replace=False).tolist()) for _ in range(10)]
    (folder / "fold_indices.txt").write_text("".join(" ".join(map(str, fold)) + " \n" for fold in folds))
    (folder / "class_names.txt").write_text("\n".join(STL10_NAMES) + "\n")
    for key in ("train_list", "test_list"):
        monkeypatch.setattr(STL10, key, [[name, md5(folder / name)] for name, _ in getattr(STL10, key)])
    return images, [*labels["train"].tolist(), *labels["test"].tolist()], folds


def svhn(root, monkeypatch, **counts):
    """Returns the images and the digits of each split of `counts`."""
    root.mkdir(parents=True, exist_ok=True)
    split_list, images, digits = dict(SVHN.split_list), {}, {}
    for split, count in counts.items():
        images[split] = pictures(count, 32)
        digits[split] = RNG.integers(0, 10, count).tolist()
        stored = np.array([digit or 10 for digit in digits[split]], np.uint8)[:, None]
        path = root / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images[split].transpose(1, 2, 3, 0), "y": stored}, do_compression=True)
        split_list[split] = [split_list[split][0], path.name, md5(path)]
    monkeypatch.setattr(SVHN, "split_list", split_list)
    return images, digits


def damage(path):
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
