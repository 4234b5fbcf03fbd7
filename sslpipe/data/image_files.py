"""Search for image files in a folder, which may have cyclic links, pipes and unreadable folders in it."""

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
    """The files in a folder and its sub-folders; paths are relative to the folder, with / as separator."""

    images: list[str] = field(default_factory=list)
    """Image files, by suffix or else by content: first the files of a folder, then its sub-folders."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Sub-folder that could not be read → the reason."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Suffix → the number of other files."""


def find_images(top: Path, *, where: str, outside: Iterable[Path] = (), skip: Collection[Path] = ()) -> ImageFiles:
    """Find all image files in the folder `top` and its sub-folders, in natural order of names (2 before 10).

    where: the params key or option with the folder, for the error. outside: folders that links are not followed into,
    in addition to the parent folders of `top`. skip: files that are not counted as other files.
    Links are followed, and each folder is searched once, even if several links lead to it. Hidden files and folders are
    skipped. Entries with the suffix of an image that are not regular files (broken links, pipes, devices) are returned
    as images without being opened, so that they are reported when they are decoded.
    Raises UserError if `top` itself cannot be read.
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
                # A link to itself is not a folder; an entry without permission may be one.
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
    """Return the names of the folders in a folder, links included, and of its other entries, both in natural order.

    Hidden names are skipped. Raises UserError with the key `where` if the folder cannot be read.
    """
    names: tuple[list[str], list[str]] = [], []
    try:
        for entry in _listed(folder):
            names[not _is_folder(entry)].append(entry.name)
    except OSError as error:
        raise _unreadable(folder, where, error) from None
    return names


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key that compares numbers in names as numbers."""
    pieces = re.split("([0-9]+)", name)
    # Without leading zeros, a longer number is larger. int() is not used, because it refuses very long numbers.
    numbers = [piece.lstrip("0") if i % 2 else piece for i, piece in enumerate(pieces)]
    return [(len(piece) if i % 2 else 0, piece) for i, piece in enumerate(numbers)], name


def shown(name: str) -> str:
    """Return a name for a message of one line: quoted if it has line breaks or bytes that are not UTF-8."""
    return name if name.isprintable() else repr(name)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are not hidden, in natural order. Raises OSError if it cannot be read."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: natural(e.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or no permission
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    """Return a key that is the same for all paths of a folder, and different for each folder."""
    return status.st_dev, status.st_ino


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _unreadable(folder: Path, where: str, error: OSError) -> UserError:
    return UserError(f"{where}: {folder} cannot be read: {_reason(error)}")
