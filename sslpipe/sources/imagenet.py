"""ImageNet (Russakovsky et al. 2015) as a folder, or a subset of its classes.

SCAN (Van Gansbeke et al. 2020, arXiv:2005.12320) has subsets of 50, 100 and 200 classes.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sslpipe.decoding.entries import Entry
from sslpipe.decoding.image_formats import check_plain, has_image_suffix
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.files import project_path
from sslpipe.io.text import counted, shown
from sslpipe.preparation.image_files import contents, find_images

WHERE = "prepare.imagenet"
PARTS: tuple[tuple[str, Literal["train", "test"]], ...] = (("train", "train"), ("val", "test"))
"""Sub-folder and part of its images; val/, whose labels are public, is the test part."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.imagenet`."""

    path: str = "data/imagenet"
    """Folder with train/<wnid>/ and val/<wnid>/, relative to the working folder."""
    classes: str | None = None
    """Text file with the wnid of a class per line: only these classes are used, in this order. The rest of a line, such
    as the class name in the lists of SCAN's public code, is ignored. null: all classes."""

    def tables(self) -> tuple[Path, ...]:
        """Return the files beside the images: that of `classes`."""
        return (project_path(self.classes),) if self.classes else ()


class Source:
    """The images, class by class; the name of a class is that of its folders, the wnid, such as n01440764."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root = project_path(settings.path)
        self.notes: Sequence[str] = ()
        self.ignored: Counter[str] = Counter()
        self.unreadable: dict[str, str] = {}
        self.entries: list[Entry] = []
        folders = {name: _class_folders(self.root, name) for name, _ in PARTS}
        if settings.classes is None:
            self.classes = tuple(folders["train"])
            # A class that is only in one part is an error in the folder, which metrics would not show.
            named = [(f"{self.root / part}", name) for part in folders for name in folders[part]]
        else:
            listed = project_path(settings.classes)
            lines = _listed_classes(listed)
            self.classes = tuple(lines)
            named = [(f"{listed} line {line}", wnid) for wnid, line in lines.items()]
        for found_in, wnid in named:
            for name, there in folders.items():
                if wnid not in there:
                    raise UserError(
                        f"{found_in}: {shown(wnid)} has no folder in {self.root / name}{nearest(wnid, there)}"
                    )
        for name, part in PARTS:
            for label, wnid in enumerate(self.classes):
                self.entries += self._class(f"{name}/{wnid}", label, part)

    def load(self, index: int) -> Path:
        """Return the path of image `index`."""
        return self.root / self.entries[index].name

    def _class(self, folder: str, label: int, part: Literal["train", "test"]) -> Sequence[Entry]:
        """Return the entries of a class in a part."""
        found = find_images(self.root / folder, where=f"{WHERE}.path", outside=(self.root,))
        self.ignored += found.ignored
        self.unreadable |= {f"{folder}/{name}": reason for name, reason in found.unreadable.items()}
        if not found.images:
            raise UserError(f"{WHERE}.path: no image found in {self.root / folder}")
        return [Entry(f"{folder}/{name}", label, part) for name in found.images]


def _class_folders(root: Path, part: str) -> list[str]:
    """Return the names of the class folders of a part, in natural order."""
    folder = root / part
    if not os.path.isdir(folder):
        missing = folder if os.path.isdir(root) else root
        raise UserError(f"{WHERE}.path: {missing} does not exist; expected {root} with train/<wnid>/ and val/<wnid>/")
    names, others = contents(folder, where=f"{WHERE}.path")
    loose = [name for name in others if has_image_suffix(name)]
    if loose or not names:
        raise UserError(
            f"{WHERE}.path: {counted(len(loose), 'image')} and {counted(len(names), 'folder')} found in {folder}, "
            f"expected {part}/<wnid>/ "
            "alone; move each image into the folder of its class"
        )
    return names


def _listed_classes(path: Path) -> dict[str, int]:
    """Return wnid → its line in a file that lists classes."""
    try:
        check_plain(path)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{WHERE}.classes: {path} does not exist") from None
    except OSError as error:
        raise UserError(f"{WHERE}.classes: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{WHERE}.classes: {path} is not UTF-8 text: {error}") from None
    found: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not (words := line.split(maxsplit=1)):
            continue
        if (first := found.setdefault(words[0], number)) != number:
            raise UserError(f"{path} line {number}: {shown(words[0])} is listed twice, first in line {first}")
    if not found:
        raise UserError(f"{WHERE}.classes: no class found in {path}, expected one wnid per line")
    return found
