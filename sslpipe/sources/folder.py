"""A folder of image files: class sub-folders or none, train/ and test/ or neither, a labels.csv or none."""

import csv
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sslpipe.data.decode import is_image
from sslpipe.data.entries import Entry
from sslpipe.data.store import UNKNOWN
from sslpipe.io.console import say
from sslpipe.io.errors import UserError

PARTS = {"train", "test"}
OTHER_PARTS = {"val", "valid", "validation", "dev"}
"""Sub-folders that, beside train/, are meant as a part, and which prepare has no use for."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.folder`."""

    path: str
    """The folder of images, from where sslpipe runs."""
    labels: str | None = None
    """A CSV file with the columns file (below `path`) and label; null: labels.csv in the folder, if it is there."""


class Source:
    """The images of a folder, in natural order of their names (2 before 10).

    With sub-folders train/ and test/ (or train/ alone) and no others, these are the source's parts. In each part (or
    the whole), the labels come from the labels file where it names any of its images; else from the names of its
    sub-folders, unless images lie beside these: then the sub-folders mean nothing, and no image has a label.
    Links are followed; a folder is entered once. Hidden files are passed over; so are files that by suffix and first
    bytes are no images, which are counted in `ignored`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root = Path(settings.path).expanduser()
        where = "prepare.folder.path"
        if not os.path.isdir(self.root):
            raise UserError(f"{where}: {self.root} is {'no folder' if os.path.exists(self.root) else 'not there'}")
        self.labels_file = Path(settings.labels).expanduser() if settings.labels else self.root / "labels.csv"
        self.ignored: Counter[str] = Counter()
        parts = {part: self._find(self.root / part) for part in _parts(self.root)}
        names = [name for found in parts.values() for name in found]
        if not names:
            others = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.ignored.items()))
            found = f", only other files ({others})" if others else ""
            raise UserError(f"{where}: no image found in {self.root}{found}")
        given = self._given_labels(set(names))
        label = {name: text for found in parts.values() for name, text in self._labels(found, given).items()}
        self.classes = tuple(sorted(set(label.values()), key=natural))
        place = {text: i for i, text in enumerate(self.classes)}
        has_test = "test" in parts
        self.entries = [
            Entry(
                name,
                place[label[name]] if name in label else UNKNOWN,
                None if not has_test else "test" if part == "test" else "train",
            )
            for part, found in parts.items()
            for name in found
        ]

    def picture(self, index: int) -> Path:
        """The file of an image."""
        return self.root / self.entries[index].name

    def _find(self, top: Path) -> dict[str, str | None]:
        """Every image below `top`, named from the root, with the sub-folder of `top` it lies in (None: in none)."""
        found: dict[str, str | None] = {}
        # A link that leads back above `top` must not bring in what lies beside it.
        real = top.resolve()
        seen = {_identity(folder) for folder in (self.root, real, *real.parents)}
        waiting: list[tuple[Path, str | None]] = [(top, None)]
        while waiting:
            folder, group = waiting.pop()
            below = []
            for name in _listed(folder):
                path = folder / name
                if os.path.isdir(path):
                    if (identity := _identity(path)) not in seen:
                        seen.add(identity)
                        below.append((path, group if folder != top else name))
                # A link that leads nowhere is no file: it will be reported as broken.
                elif (os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))) and is_image(path):
                    found[path.relative_to(self.root).as_posix()] = group
                elif path != self.labels_file:
                    self.ignored[path.suffix.lower() or "without suffix"] += 1
            waiting += reversed(below)
        return found

    def _labels(self, found: dict[str, str | None], given: dict[str, str]) -> dict[str, str]:
        """Image → class of one part's images, for those that have one."""
        if any(name in given for name in found):
            return {name: given[name] for name in found if name in given}
        groups = {group for group in found.values() if group is not None}
        loose = sum(group is None for group in found.values())
        if loose and groups:
            say(
                f"prepare.folder.path: {loose} images lie beside {len(groups)} sub-folders of images in {self.root}: "
                "the sub-folders are not taken as classes"
            )
        return {} if loose else {name: group for name, group in found.items() if group is not None}

    def _given_labels(self, names: set[str]) -> dict[str, str]:
        """Image → class from the labels file; empty where there is no such file."""
        path = self.labels_file
        if not self.settings.labels and not path.exists():
            return {}
        labels: dict[str, str] = {}
        for line, file, text in _rows(path):
            name = os.path.normpath(file)
            if name not in names:
                raise UserError(f"{path} line {line}: {file!r} is no image in {self.root}")
            if labels.setdefault(name, text) != text:
                raise UserError(f"{path} line {line}: {file!r} has two labels, {labels[name]!r} and {text!r}")
        if not labels:
            raise UserError(f"{path}: no label found, expected rows of file,label")
        return labels


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key by which numbers in names count as numbers."""
    pieces = re.split("([0-9]+)", name)
    return [(int(piece), "") if i % 2 else (0, piece) for i, piece in enumerate(pieces)], name


def _parts(root: Path) -> tuple[str, ...]:
    """The sub-folders that are parts, training first; the folder itself where there are none."""
    folders = {name for name in _listed(root) if os.path.isdir(root / name)}
    if "train" not in folders or not folders <= PARTS | OTHER_PARTS:
        return (".",)
    if extra := folders - PARTS:
        raise UserError(
            f"prepare.folder.path: {root} holds train/ and {', '.join(f'{name}/' for name in sorted(extra))}, "
            "expected train/ and test/ alone; rename or move it"
        )
    return ("train", "test") if "test" in folders else ("train",)


def _listed(folder: Path) -> list[str]:
    """Names in a folder that are not hidden, in natural order."""
    try:
        return sorted((name for name in os.listdir(folder) if not name.startswith(".")), key=natural)
    except OSError as error:
        raise UserError(f"prepare.folder.path: {folder} cannot be read: {error.strerror}") from None


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from every other, whichever path leads to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Line, file and label of each row of a labels file that gives a label."""
    try:
        # -sig: spreadsheets write a mark at the start.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if not {"file", "label"} <= set(columns):
                raise UserError(f"{path}: columns {', '.join(columns) or 'none'} found, expected file,label")
            rows = [(reader.line_num, row["file"] or "", (row["label"] or "").strip()) for row in reader]
    except FileNotFoundError:
        raise UserError(f"prepare.folder.labels: {path} is not there") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not readable as CSV: {error}") from None
    return [row for row in rows if row[2]]
