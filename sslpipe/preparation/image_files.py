"""Search for image files in a folder, which may have cyclic links, pipes and unreadable folders in it."""

import errno
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sslpipe.decoding.image_formats import has_image_suffix, is_image
from sslpipe.io.errors import UserError
from sslpipe.io.text import listed, shown

SYSTEM_FOLDERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
"""Names, in lower case, of folders that macOS, Windows, Linux and file servers add; @eaDir has thumbnails."""


@dataclass(frozen=True)
class ImageFiles:
    """The files in a folder and its sub-folders; paths are relative to the folder, with / as separator."""

    images: list[str] = field(default_factory=list)
    """Image files, by suffix or else by content: first the files of a folder, then its sub-folders."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Sub-folder that could not be read → the reason."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Suffix → the number of other files."""
    empty: list[str] = field(default_factory=list)
    """Sub-folders without an image in them or below, without those that lie in another one."""
    linked: dict[str, str] = field(default_factory=dict)
    """Link to a folder that is searched already → that folder, "." for `top` and "/" for a folder outside of it."""
    hidden: list[str] = field(default_factory=list)
    """Folders, with "/", and images whose names start with a dot, which are not searched."""
    system: list[str] = field(default_factory=list)
    """Folders of an operating system or a file server, which are not searched."""

    def notes(self) -> list[str]:
        """Return what was passed over, a sentence for each kind."""
        kinds = (
            ("folders without images", [f"{name}/" for name in self.empty]),
            ("links to folders that are searched already", [f"{a}/ → {b}" for a, b in self.linked.items()]),
            ("hidden folders and images", self.hidden),
            ("system folders", [f"{name}/" for name in self.system]),
            ("unreadable folders", [f"{name}/: {reason}" for name, reason in self.unreadable.items()]),
            ("other files", [f"{count:,} {shown(suffix)}" for suffix, count in self.ignored.most_common()]),
        )
        return [f"{kind} left out: {listed(names)}" for kind, names in kinds if names]


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
    try:
        real = Path(os.path.realpath(top))
        seen = {_identity(folder.stat()): "/" for folder in (*outside, *real.parents)} | {_identity(real.stat()): "."}
    except OSError as error:
        raise _unreadable(top, where, error) from None
    own: dict[tuple[int, int], str] = {}
    searched: list[str] = []
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
        searched.append(prefix.rstrip("/"))
        below = []
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                if _is_folder(entry) or has_image_suffix(name):
                    found.hidden.append(f"{name}/" if _is_folder(entry) else name)
                continue
            try:
                if entry.is_dir():
                    identity = _identity(entry.stat())
                    if entry.is_symlink():
                        own = own or _own_folders(top)
                    there = seen.get(identity) or (own.get(identity) if entry.is_symlink() else None)
                    if there:
                        found.linked[name] = there
                    elif entry.name.lower() in SYSTEM_FOLDERS:
                        found.system.append(name)
                    else:
                        seen[identity] = name
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
    found.empty.extend(_empty(searched, found))
    return found


def _own_folders(top: Path) -> dict[tuple[int, int], str]:
    """Return identity → name of the folders in `top` that are reached without links, and are neither hidden nor system.

    A link to one of them is passed over even where it comes first in the order of names.
    """
    own = {}
    for folder, below, _ in os.walk(top):
        below[:] = [name for name in below if not name.startswith(".") and name.lower() not in SYSTEM_FOLDERS]
        with suppress(OSError):
            own[_identity(os.stat(folder))] = os.path.relpath(folder, top)
    return own


def _empty(searched: Iterable[str], found: ImageFiles) -> list[str]:
    """Return the searched folders without an image in them or below, without those that lie in another one."""
    filled = {""}
    for name in (*found.images, *found.unreadable):
        while (name := name.rpartition("/")[0]) not in filled:
            filled.add(name)
    return [name for name in searched if name not in filled and name.rpartition("/")[0] in filled]


def contents(folder: Path, *, where: str) -> tuple[list[str], list[str]]:
    """Return the names of the folders in a folder, links included, and of its other entries, both in natural order.

    Hidden names are skipped. Raises UserError with the key `where` if the folder cannot be read.
    """
    names: tuple[list[str], list[str]] = [], []
    try:
        for entry in _listed(folder):
            if not entry.name.startswith("."):
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


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder in natural order. Raises OSError if it cannot be read."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: natural(entry.name))


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
    missing = {errno.ENOENT: "does not exist", errno.ENOTDIR: "is not a folder"}
    return UserError(f"{where}: {folder} {missing.get(error.errno or 0, f'cannot be read: {_reason(error)}')}")
