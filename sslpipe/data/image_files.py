"""Image files below a folder, whatever else lies there: links in circles, pipes, folders that may not be read."""

import errno
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sslpipe.data.decode import has_image_suffix, is_image
from sslpipe.io.errors import UserError


@dataclass(frozen=True)
class ImageFiles:
    """What lies below a folder; names are relative to it, with / between folders."""

    images: list[str] = field(default_factory=list)
    """Files taken as images, not yet opened where their suffix is known: a folder's own files, then its sub-folders."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Sub-folders that could not be looked into, and why."""
    ignored: Counter[str] = field(default_factory=Counter)
    """How many other files there are, by suffix."""


def find_images(top: Path, *, where: str, outside: Iterable[Path] = (), skip: Collection[Path] = ()) -> ImageFiles:
    """Every image file below the folder `top`, at any depth, in natural order of names (2 before 10).

    where: the params key or option that named the folder, for the error. outside: folders that a link must not lead
    into, besides those that `top` lies in. skip: files that are not counted among the others.
    Links are followed; a folder is entered once, whichever links lead to it. Hidden names are passed over. What has the
    suffix of an image and is none (a link to nowhere, a pipe, a device) is among the images, so that whoever decodes
    them reports it; nothing of that kind is opened here.
    Raises UserError where `top` itself cannot be read.
    """
    found = ImageFiles()
    real = top.resolve()
    seen = {_identity(folder.stat()) for folder in (*outside, real, *real.parents)}
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            entries = _listed(top / prefix)
        except OSError as error:
            if not prefix:
                raise _unreadable(top, where, error) from None
            found.unreadable[prefix.rstrip("/")] = _reason(error)
            continue
        below = []
        for entry in entries:
            name = prefix + entry.name
            try:
                if entry.is_dir():
                    if (identity := _identity(entry.stat())) not in seen:
                        seen.add(identity)
                        below.append(f"{name}/")
                    continue
                is_file = entry.is_file()
            except OSError as error:
                # A link to itself is no folder; what may not be looked at could be one.
                if error.errno != errno.ELOOP and not has_image_suffix(name):
                    found.unreadable[name] = _reason(error)
                    continue
                is_file = False
            if has_image_suffix(name) or (is_file and is_image(top / name)):
                found.images.append(name)
            elif top / name not in skip:
                found.ignored[Path(name).suffix.lower() or "without suffix"] += 1
        waiting += reversed(below)
    return found


def contents(folder: Path, *, where: str) -> tuple[list[str], list[str]]:
    """Names of the folders in a folder (or links to folders), and of all else in it, both in natural order.

    Hidden names are passed over. Raises UserError, naming the key `where`, if the folder cannot be read.
    """
    names: tuple[list[str], list[str]] = [], []
    try:
        for entry in _listed(folder):
            names[not _is_folder(entry)].append(entry.name)
    except OSError as error:
        raise _unreadable(folder, where, error) from None
    return names


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key by which numbers in names count as numbers."""
    pieces = re.split("([0-9]+)", name)
    # A number without its zeros in front is the larger the longer it is: int() refuses more than some thousand digits.
    numbers = [piece.lstrip("0") if i % 2 else piece for i, piece in enumerate(pieces)]
    return [(len(piece) if i % 2 else 0, piece) for i, piece in enumerate(numbers)], name


def shown(name: str) -> str:
    """A name as one line can hold it: as it is, or quoted where it has line breaks or bytes that are no UTF-8."""
    return name if name.isprintable() else repr(name)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, in natural order. Raises OSError where it cannot be read."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: natural(e.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where one may not look
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    """What tells a folder from every other, whichever path leads to it."""
    return status.st_dev, status.st_ino


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _unreadable(folder: Path, where: str, error: OSError) -> UserError:
    return UserError(f"{where}: {folder} cannot be read: {_reason(error)}")
