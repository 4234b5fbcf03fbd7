"""What an unfinished prepare has done: a line for each chunk of images, by which the next run goes on."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import sslpipe
from sslpipe.data.store import Split
from sslpipe.decoding.deep_image import DeepValues
from sslpipe.decoding.entries import ImageSource
from sslpipe.decoding.image_info import ImageInfo
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import append_bytes, write_bytes

CODE = ("data", "decoding", "io", "preparation", "sources")
"""Packages on whose code the store depends, as in dvc.yaml."""
LIBRARIES = ("numpy", "pillow", "pi-heif", "tifffile")
INFO_FIELDS = tuple(field.name for field in fields(ImageInfo))


@dataclass(frozen=True)
class Record:
    """A chunk of images that is written: all that is known of it beside its bytes in images.npy."""

    split: Split
    broken: dict[int, str]
    """Index of each entry that could not be decoded → the reason."""
    image_info: list[ImageInfo]
    """What is known of each of the n images."""
    sizes: list[int]
    """Number of bytes of each of the n images."""
    checksum: int
    """CRC-32 of these bytes."""

    def as_line(self) -> bytes:
        """Return the record as a line of JSON."""
        images = [astuple(image) for image in self.image_info]
        return json.dumps([self.split, self.broken, images, self.sizes, self.checksum]).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> "Record | None":
        """Return the record of a line; None if it was not written to its end."""
        try:
            split, broken, images, sizes, checksum = json.loads(line) if line.endswith(b"\n") else []
        except ValueError:
            return None
        return cls(split, {int(i): reason for i, reason in broken.items()}, list(map(_info, images)), sizes, checksum)


def _info(values: Sequence[Any]) -> ImageInfo:
    known = dict(zip(INFO_FIELDS, values, strict=True))
    deep = DeepValues(*known["deep"]) if known["deep"] else None
    return ImageInfo(**{**known, "size": tuple(known["size"]), "deep": deep})


class Journal:
    """The file .NAME.journal beside the output NAME; it lies outside of the unfinished folder, so that it is deleted
    only when that has become the output.

    Its first line is a key of all that decides the images; the following ones are records. A record is appended when
    the bytes of its chunk are written. It has their checksum, so that nothing has to be forced to the disk: what a
    power failure loses is noticed when it is read again.
    """

    def __init__(self, out: Path, key: str, images: int) -> None:
        """out: the output. key: see `key_of_images`. images: number of images, broken ones included, for messages."""
        self.path = out.parent / f".{out.name}.journal"
        self.images, self.done = images, 0
        self._head = f"{key}\n".encode()
        self._end = len(self._head)
        self._printed = False

    def is_begun(self) -> bool:
        """Whether the file is one of the same key with at least one record."""
        try:
            with self.path.open("rb") as file:
                return file.readline() == self._head and Record.of_line(file.readline()) is not None
        except OSError:
            return False

    def __enter__(self) -> Self:
        """Begin a new file, unless there is one to continue."""
        if not self.is_begun():
            if self.path.exists():
                info("prepare: an unfinished run had other settings, images or code; it is deleted")
            write_bytes(self.path, self._head)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the file after an error that would be the same again, and if it has no record."""
        if error is None:
            return
        if not self.done or (isinstance(error, UserError) and not isinstance(error.__cause__, OSError)):
            self.delete()
        else:
            info(f"prepare: stopped after {self.done} of {self.images} images; the next run resumes there")

    def records(self, split: Split) -> Iterator[Record]:
        """Yield the next records if they are of this split, and count each of them when the next one is asked for."""
        with self.path.open("rb") as file:
            file.seek(self._end)
            while (record := Record.of_line(line := file.readline())) is not None and record.split == split:
                yield record
                self._count(record, line)

    def print_resumed(self) -> None:
        """Print once, before further records are appended, how many images an earlier run has written."""
        if self.done and not self._printed:
            info(f"prepare: resumed after {self.done} of {self.images} images")
        self._printed = True

    def append(self, record: Record) -> None:
        """Write a record after those that were counted, in the place of any others."""
        os.truncate(self.path, self._end)
        line = record.as_line()
        append_bytes(self.path, line, size=self._end)
        self._count(record, line)

    def delete(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def _count(self, record: Record, line: bytes) -> None:
        self._end += len(line)
        self.done += len(record.image_info) + len(record.broken)


def key_of_images(source: ImageSource, drawn: Mapping[Split, NDArray[np.int64]], settings: Sequence[Any]) -> str:
    """Return a hash of all that decides the images of a store and their order.

    These are the splits, name, size and time of each file (of a source of arrays the pixels), the code, the versions of
    libraries, and `settings`, whose repr must state all values.
    """
    found = hashlib.sha256(repr([settings, *map(_version, LIBRARIES)]).encode())
    for package in CODE:
        for path in sorted(Path(sslpipe.__path__[0], package).glob("*.py")):
            found.update(path.read_bytes())
    for split, indices in drawn.items():
        found.update(f"{split} {len(indices)}\n".encode())
        for index in indices.tolist():
            found.update(f"{source.entries[index].name}\n".encode("utf-8", "surrogateescape"))
            image = source.load(index)
            found.update(_status(image) if isinstance(image, Path) else f"{image.shape}".encode() + image.tobytes())
    return found.hexdigest()


def _status(path: Path) -> bytes:
    """Return the size and the time of a file; empty if it has none, such as a broken link."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return b""
    return f"{status.st_size} {status.st_mtime_ns}".encode()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
