"""A folder of image files, optionally with a sub-folder per class, with train/ and test/, or with a labels.csv."""

import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sslpipe.data.decode import check_plain
from sslpipe.data.entries import Entry
from sslpipe.data.image_files import contents, find_images, natural, shown
from sslpipe.data.store import UNKNOWN
from sslpipe.io.console import info
from sslpipe.io.errors import UserError

WHERE = "prepare.folder.path"
PARTS = {"train", "test"}
OTHER_PARTS = {"val", "valid", "validation", "dev"}
"""Names of sub-folders beside train/ that are meant as a part, but that prepare does not use."""
MOST_SUFFIXES = 5
"""Maximum number of suffixes in the error for a folder without images."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.folder`."""

    path: str
    """Folder with the images, relative to the working folder."""
    labels: str | None = None
    """CSV file with the columns file (relative to `path`) and label; null: labels.csv in the folder, if it exists."""


class Source:
    """The images of a folder, in natural order of their names (2 before 10).

    If the only sub-folders are train/ and test/, or train/ alone, they are the source's parts. The labels of a part (or
    of the folder) come from the labels file if it has any of the part's images. Otherwise, the classes are the
    sub-folders of the part; but if it has images beside its sub-folders, no image has a label.
    Links are followed, and each folder is searched once. Hidden files are skipped, and so are files that are not images
    by suffix and first bytes, which are counted in `ignored`, and unreadable sub-folders, which are in `unreadable`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root = Path(os.path.expanduser(settings.path))
        if not os.path.isdir(self.root):
            raise UserError(
                f"{WHERE}: {self.root} {'is not a folder' if os.path.exists(self.root) else 'does not exist'}"
            )
        self.labels_file = Path(os.path.expanduser(settings.labels)) if settings.labels else self.root / "labels.csv"
        self.ignored: Counter[str] = Counter()
        self.unreadable: dict[str, str] = {}
        parts = {part: self._find(part) for part in _parts(self.root)}
        names = [name for found in parts.values() for name in found]
        if not names:
            raise UserError(f"{WHERE}: no image found in {self.root}{self._else_there()}")
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

    def load(self, index: int) -> Path:
        """Return the path of image `index`."""
        return self.root / self.entries[index].name

    def _find(self, part: str) -> dict[str, str | None]:
        """Return image, relative to the root → its sub-folder of the part, None for images beside the sub-folders."""
        prefix = "" if part == "." else f"{part}/"
        found = find_images(self.root / part, where=WHERE, outside=(self.root,), skip=(self.labels_file,))
        self.ignored += found.ignored
        self.unreadable |= {prefix + name: reason for name, reason in found.unreadable.items()}
        return {prefix + name: name.partition("/")[0] if "/" in name else None for name in found.images}

    def _else_there(self) -> str:
        """Describe what a folder without images has, for the error."""
        found = [f"{count} {shown(suffix)}" for suffix, count in self.ignored.most_common(MOST_SUFFIXES)]
        if len(self.ignored) > MOST_SUFFIXES:
            found.append("...")
        others = f", only other files ({', '.join(found)})" if found else ""
        closed = [f"{shown(name)} cannot be read: {reason}" for name, reason in self.unreadable.items()]
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        return others + (f"; {closed[0]}{more}" if closed else "")

    def _labels(self, found: dict[str, str | None], given: dict[str, str]) -> dict[str, str]:
        """Return image → class, for the images of a part that have one."""
        if any(name in given for name in found):
            return {name: given[name] for name in found if name in given}
        groups = {group for group in found.values() if group is not None}
        loose = sum(group is None for group in found.values())
        if loose and groups:
            info(
                f"{WHERE}: {loose} images are beside {len(groups)} sub-folders of images in {self.root}: "
                "the sub-folders are not taken as classes"
            )
        return {} if loose else {name: group for name, group in found.items() if group is not None}

    def _given_labels(self, names: set[str]) -> dict[str, str]:
        """Return image → class from the labels file; empty if there is no such file."""
        path = self.labels_file
        if not self.settings.labels and not os.path.exists(path):
            return {}
        labels: dict[str, str] = {}
        for line, file, text in _rows(path):
            name = os.path.normpath(file)
            if name not in names:
                raise UserError(f"{path} line {line}: {file!r} is not an image in {self.root}")
            if labels.setdefault(name, text) != text:
                raise UserError(f"{path} line {line}: {file!r} has two labels, {labels[name]!r} and {text!r}")
        if not labels:
            raise UserError(f"{path}: no label found, expected rows of file,label")
        return labels


def _parts(root: Path) -> tuple[str, ...]:
    """Return the sub-folders that are parts, training first; the folder itself if there are none."""
    folders = set(contents(root, where=WHERE)[0])
    if "train" not in folders or not folders <= PARTS | OTHER_PARTS:
        return (".",)
    if extra := folders - PARTS:
        raise UserError(
            f"{WHERE}: {root} holds train/ and {', '.join(f'{name}/' for name in sorted(extra))}, "
            "expected train/ and test/ alone; rename or move it"
        )
    return ("train", "test") if "test" in folders else ("train",)


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Return the line, file and label of each row of a labels file that has a label."""
    try:
        check_plain(path)
        # utf-8-sig: spreadsheets write a byte order mark. surrogateescape: names of files may be other than UTF-8.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if not {"file", "label"} <= set(columns):
                found = ", ".join(shown(column) for column in columns) or "none"
                raise UserError(f"{path}: columns {found} found, expected file,label")
            rows = [(reader.line_num, row["file"] or "", (row["label"] or "").strip()) for row in reader]
    except FileNotFoundError:
        raise UserError(f"prepare.folder.labels: {path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise UserError(f"{path}: not readable as CSV: {error}") from None
    for line, _, label in rows:
        if any("\ud800" <= character <= "\udfff" for character in label):
            raise UserError(f"{path} line {line}: label {label!r} found, expected UTF-8")
    return [row for row in rows if row[2]]
