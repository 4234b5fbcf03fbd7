"""A folder of image files: flat, with a sub-folder for each class, or with parts such as train/ and test/."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sslpipe.data.store import UNKNOWN
from sslpipe.decoding.entries import Entry
from sslpipe.decoding.heic_files import heic_note
from sslpipe.io.errors import UserError
from sslpipe.io.files import project_path
from sslpipe.io.text import listed
from sslpipe.preparation.class_folders import masks_note
from sslpipe.preparation.class_names import difference, spelling
from sslpipe.preparation.folder_layout import WHERE, LayoutName, read_layout
from sslpipe.preparation.image_files import ImageFiles, find_images, natural
from sslpipe.preparation.labels_file import NO_LABEL, find_labels_files, read_labels


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare.folder`."""

    path: str
    """Folder with the images, relative to the working folder."""
    layout: LayoutName | None = None
    """What the sub-folders are: flat (nothing), classes, or parts (train/, test/, val/, each with or without class
    folders). null: recognised by their names; a doubtful folder is refused."""
    labels: str | None = None
    """File with the columns file and label, such as a CSV, whose labels take the place of class folders; null: files
    such as labels.csv in the folder, if there are any."""
    no_label: tuple[str, ...] = NO_LABEL
    """Texts in the place of a label that mean that an image has none."""

    def tables(self) -> tuple[Path, ...]:
        """Return the files with labels: `labels`, or else those that are found in the folder."""
        return (project_path(self.labels),) if self.labels else find_labels_files(project_path(self.path))


class Source:
    """The images of a folder, in natural order of their names (2 before 10).

    Links are followed, and each folder is searched once. Hidden files are skipped, and so are files that are not images
    by suffix and first bytes, which are counted in `ignored`, and unreadable sub-folders, which are in `unreadable`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root = project_path(settings.path)
        files = settings.tables()
        found = find_images(self.root, where=WHERE, skip=files)
        self.ignored: Counter[str] = found.ignored
        self.unreadable: dict[str, str] = found.unreadable
        if not found.images:
            raise UserError(f"{WHERE}: no image found in {self.root}{_instead(found)}")
        given = read_labels(files, found.images, self.root, no_label=settings.no_label, found=settings.labels is None)
        self.layout = read_layout(found.images, settings.layout, labelled=given.label)
        self.notes = (
            *self.layout.notes,
            *masks_note(found.images),
            *heic_note(found.images),
            *given.notes,
            *found.notes(),
        )
        """What was left out, read in another way or guessed, a sentence each."""
        images = self.layout.images
        label = {
            name: text for name, (_, group) in images.items() if (text := given.label.get(name, group)) is not None
        }
        self.classes = tuple(sorted(set(label.values()), key=natural))
        place = {text: i for i, text in enumerate(self.classes)}
        # The classes as they were before labels were asked for; an image in a class folder was in it before as well.
        before = {
            name: text
            for name, (_, group) in images.items()
            if (text := (given.asked[name] or group) if name in given.asked else label.get(name)) is not None
        }
        drawn = {text: i for i, text in enumerate(sorted(set(before.values()), key=natural))}
        self.entries = [
            Entry(
                name,
                place[label[name]] if name in label else UNKNOWN,
                part,
                (drawn[before[name]] if name in before else UNKNOWN) if given.asked else None,
                name in given.asked,
            )
            for name, (part, _) in images.items()
        ]
        self._check_classes()

    def load(self, index: int) -> Path:
        """Return the path of image `index`."""
        return self.root / self.entries[index].name

    def _check_classes(self) -> None:
        """Raise UserError for classes that no training image has, although others have labels."""
        known = {entry.label for entry in self.entries if entry.part in (None, "train") and entry.label != UNKNOWN}
        others = [name for label, name in enumerate(self.classes) if label not in known]
        if known and others:
            count = Counter(self.classes[entry.label] for entry in self.entries if entry.label != UNKNOWN)
            trained = [self.classes[label] for label in sorted(known)]
            raise UserError(
                f"{WHERE}: no training image is of {listed(f'{name!r} ({count[name]:,} others)' for name in others)}"
                f"{_alike(others, trained)}; rename the class, label or move images to train/, or leave it out"
            )


def _alike(others: Sequence[str], trained: Sequence[str]) -> str:
    """Describe a class that is spelled like one of the training images, for the error."""
    known = {spelling(name): name for name in trained}
    pairs = ((name, known[spelling(name)]) for name in others if spelling(name) in known)
    return next((f"; {name!a} and {other!a} differ by {difference(name, other)}" for name, other in pairs), "")


def _instead(found: ImageFiles) -> str:
    """Describe what a folder without images has, for the error."""
    return "; " + "; ".join(found.notes()) if found.notes() else ""
