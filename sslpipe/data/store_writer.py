"""Writes the image store: decodes a source's images split by split, and takes their statistics on the way."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from math import sqrt
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.decode import Decoded, Decoder
from sslpipe.data.entries import Entry, ImageSource
from sslpipe.data.splits import DrawName, Labelled, draw_labelled, draw_splits
from sslpipe.data.store import SPLITS, UNKNOWN, ProtocolName, Split, StoreInfo
from sslpipe.io.console import Progress, progress
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_folder, write_array, write_json
from sslpipe.io.params import Params
from sslpipe.io.settings import Count, Fraction, parse
from sslpipe.io.version import own_version


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare`, beside the sources' own blocks; defaults suit the demonstration on digits."""

    source: str = "digits"
    """A module of sslpipe.sources."""
    size: Count = 16
    """Side of the square images, pixels."""
    channels: Literal[1, 3] = 1
    """1 grey, 3 colour."""
    test: Fraction = 0.25
    """Drawn for the test where the source has no test part of its own."""
    held_out: Fraction = 0.1
    """Of the training images, left for model choice."""
    labelled: Labelled | None = None
    """Which of the known training labels a method may use; null: all."""
    draw: DrawName = "by_class"
    """Among which images test and held-out ones are drawn. With a few labels of one's own, `unlabelled` trains on all
    of them and leaves figures that need none; `blind` is for labels that are still to come."""


def read_settings(project: Params, *, sources: Sequence[str]) -> Settings:
    """The block `prepare` of params.yaml, less the blocks of the `sources`, which lie in it and are read by these."""
    block = project.tree.get("prepare") or {}
    if isinstance(block, Mapping):
        block = {key: value for key, value in block.items() if key not in sources}
    return parse(Settings, block, where="prepare")


@dataclass(frozen=True)
class Prepared:
    """What was written, for the line that prepare ends with."""

    info: StoreInfo
    classes: int
    labelled: int
    broken: int
    unreadable: int
    ignored: int

    def __str__(self) -> str:
        counts = ", ".join(f"{self.info.count(split)} {split}" for split in SPLITS)
        unreadable = f", {self.unreadable} folders unreadable" if self.unreadable else ""
        ignored = f", {self.ignored} other files passed over" if self.ignored else ""
        return (
            f"{counts} images of {self.classes} classes, {self.labelled} labelled; "
            f"{self.broken} broken{unreadable}{ignored} (report.json)"
        )


def write_store(
    out: Path,
    source: ImageSource,
    settings: Settings,
    *,
    protocol: ProtocolName,
    seed: int,
    workers: int,
    strict: bool,
) -> Prepared:
    """Write the store of a source's images into the folder `out`, whole or not at all.

    The bytes written depend on the source, the settings, the protocol and the seed, and not on `workers`. The splits
    are drawn before decoding, so that mending a broken file moves no other image; the labelled images are drawn
    among those that could be decoded.
    Raises UserError where no training image is left, a class has too few, or (`strict`) any image is broken or any
    folder of the source unreadable.
    """
    entries = source.entries
    if strict and source.unreadable:
        name, reason = next(iter(source.unreadable.items()))
        raise UserError(
            f"prepare: {len(source.unreadable)} folders unreadable, refused by --strict; "
            f"the first is {name!r}: {reason}"
        )
    drawn = draw_splits(
        entries,
        test=settings.test,
        held_out=settings.held_out,
        protocol=protocol,
        seed=seed,
        draw=settings.draw,
    )
    # Too few labels are said now, and not after a long decoding.
    draw_labelled(_labels(entries, drawn["train"]), source.classes, settings.labelled, seed=seed)
    image_shape = (settings.channels, settings.size, settings.size)
    decoder = Decoder(source, size=settings.size, channels=settings.channels, workers=workers)
    written: dict[Split, NDArray[np.int64]] = {}
    with atomic_folder(out) as folder, decoder, progress("prepare", len(entries), "images") as shown:
        totals = Totals(image_shape, shown)
        for split in SPLITS:
            chunks = totals.counted(decoder.decode(drawn[split]), split)
            written[split] = _write_split(folder / split, entries, chunks, image_shape)
        broken = totals.broken
        if broken and strict:
            first = min(broken)
            raise UserError(
                f"prepare: {len(broken)} of {len(entries)} images broken, refused by --strict; "
                f"the first is {entries[first].name!r}: {broken[first]}"
            )
        if not len(written["train"]):
            raise UserError(
                f"prepare: no training image is left of {len(entries)} images, {len(broken)} of them broken, with "
                f"prepare.test {settings.test:g} and prepare.held_out {settings.held_out:g}"
            )
        label = _labels(entries, written["train"])
        labelled = draw_labelled(label, source.classes, settings.labelled, seed=seed)
        mean, std = totals.statistics.mean_std()
        info = StoreInfo(
            size=settings.size,
            channels=settings.channels,
            mean=mean,
            std=std,
            train=len(written["train"]),
            held_out=len(written["held_out"]),
            test=len(written["test"]),
            protocol=protocol,
            fingerprint=totals.fingerprint.hexdigest(),
            version=own_version(),
        )
        (folder / "labelled").mkdir()
        write_array(folder / "labelled" / "index.npy", labelled)
        write_array(folder / "labelled" / "label.npy", label[labelled])
        write_json(folder / "labelled" / "classes.json", [_text(name) for name in source.classes])
        write_json(folder / "store.json", asdict(info))
        write_json(
            folder / "report.json",
            {
                "source": {"name": settings.source, **_texts(asdict(source.settings))},
                "seed": seed,
                "protocol": protocol,
                "splits": {split: _counts(source, written[split]) for split in SPLITS},
                "labelled": _counts(source, written["train"][labelled]),
                "broken": [{"file": _text(entries[i].name), "reason": broken[i]} for i in sorted(broken)],
                "unreadable": [{"folder": _text(name), "reason": why} for name, why in source.unreadable.items()],
                "ignored": _texts(source.ignored),
            },
        )
    return Prepared(
        info, len(source.classes), len(labelled), len(broken), len(source.unreadable), sum(source.ignored.values())
    )


def _write_split(
    folder: Path, entries: Sequence[Entry], chunks: Iterable[Decoded], image_shape: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Write one split; returns the indices of the entries that are in it, those that could be decoded."""
    folder.mkdir()
    index = [np.zeros(0, np.int64)]
    with GrowingArray(folder / "images.npy", image_shape) as file:
        for chunk in chunks:
            file.append(chunk.images)
            index.append(chunk.index)
    written = np.concatenate(index)
    write_array(folder / "labels.npy", _labels(entries, written))
    write_json(folder / "files.json", [_text(entries[i].name) for i in written.tolist()])
    return written


class Totals:
    """What is counted over all splits while they are written."""

    def __init__(self, image_shape: tuple[int, int, int], shown: Progress) -> None:
        self.image_shape = image_shape
        self.broken: dict[int, str] = {}
        self.statistics = PixelStatistics(image_shape[0])
        self.fingerprint = hashlib.sha256()
        self._shown = shown

    def counted(self, chunks: Iterable[Decoded], split: Split) -> Iterator[Decoded]:
        """The chunks of a split as they pass."""
        images = 0
        for chunk in chunks:
            yield chunk
            images += len(chunk.images)
            self.broken.update(chunk.broken)
            self.fingerprint.update(chunk.images.data)
            if split == "train":
                self.statistics.add(chunk.images)
            self._shown.advance(len(chunk.images) + len(chunk.broken))
        self.fingerprint.update(f"{split} {images} x {self.image_shape}".encode())


class GrowingArray:
    """An .npy file of uint8 images that grows: its header is written anew when their number is known.

    Written in sequence and never through a map, where a full disk would end the process with a signal.
    """

    def __init__(self, path: Path, image_shape: tuple[int, int, int]) -> None:
        self.shape = (0, *image_shape)
        self._file = path.open("wb")
        self._file.write(self._header())

    def __enter__(self) -> "GrowingArray":
        return self

    def append(self, images: NDArray[np.uint8]) -> None:
        """Add images [n, C, H, W], contiguous."""
        self._file.write(images.data)
        self.shape = (self.shape[0] + len(images), *self.shape[1:])

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._file.write(self._header())

    def _header(self) -> bytes:
        """Of the same length for every number of images: numpy leaves capacity for the first axis to grow."""
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": self.shape})
        return header.getvalue()


class PixelStatistics:
    """Mean and standard deviation of each channel, exact: sums of whole numbers."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum = [0] * channels
        self._squares = [0] * channels

    def add(self, images: NDArray[np.uint8]) -> None:
        """Count images [n, C, H, W] in."""
        for channel, pixels in enumerate(images.swapaxes(0, 1)):
            count = np.bincount(pixels.ravel(), minlength=256)
            values = np.arange(256)
            self._sum[channel] += int(count @ values)
            self._squares[channel] += int(count @ values**2)
        self._count += images[:, 0].size

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel, of values in [0, 1]; the standard deviation of a channel that never changes is given as 1."""
        n = self._count
        mean = tuple(total / (255 * n) for total in self._sum)
        spread = [n * squares - total**2 for total, squares in zip(self._sum, self._squares, strict=True)]
        return mean, tuple(sqrt(s) / (255 * n) if s else 1.0 for s in spread)


def _labels(entries: Sequence[Entry], index: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array([entries[i].label for i in index.tolist()], np.int64)


def _counts(source: ImageSource, index: NDArray[np.int64]) -> dict[str, Any]:
    """Images in all, without a label, and of each class."""
    count = Counter(_labels(source.entries, index).tolist())
    return {
        "images": len(index),
        "without_label": count[UNKNOWN],
        "classes": {_text(name): count[label] for label, name in enumerate(source.classes)},
    }


def _text(name: str) -> str:
    r"""A file's name as JSON can hold it: bytes that are no UTF-8 are shown as \xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _texts(block: Mapping[str, Any]) -> dict[str, Any]:
    """Likewise a mapping's keys and values."""
    return {_text(key): _text(value) if isinstance(value, str) else value for key, value in block.items()}
