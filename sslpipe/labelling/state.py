"""Groups and labels as the page has them: what all actions together lead to.

Images are numbers: 0 … N-1 are the training images, which groups are made of, and then come the held-out ones, which
are only asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sslpipe.io.text import counted
from sslpipe.labelling.actions import Action, Answer, Confirm, Edit, Merge, Move, Name, Rename, Split, images_of
from sslpipe.labelling.errors import NotThereError, RefusedError
from sslpipe.preparation.image_files import natural
from sslpipe.preparation.questions_file import Row

ASIDE = -1
"""The group of images that belong to no group."""
PARTS = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Given:
    """What a person said of an image."""

    how: str
    """answer, confirm, move or edit."""
    label: str | None
    """The class; None for that of the image's group, if it has a name."""
    number: int
    """Number of the question or action, as in the table of labels."""
    reason: str
    before: str | None = None
    """Label before any question, of an edited row; None for that of the image's earlier row."""


@dataclass
class LabelState:
    """Groups and labels. All attributes but the first four follow from the actions that were applied."""

    files: Sequence[str]
    """File of each image, as its source names it, training images first."""
    home: NDArray[np.int64]
    """[N], the model's cluster of each training image."""
    rows: dict[str, Row]
    """File → row of each label that was known before the first action."""
    last_number: int = 0
    """The highest number of a question so far."""
    fixed: Mapping[int, str] = field(default_factory=dict)
    """Names of groups that cannot be changed, those of a classifier."""

    def __post_init__(self) -> None:
        self.place = {file: i for i, file in enumerate(self.files)}
        self.group = self.home.copy()
        """[N], the group of each training image, ASIDE for none."""
        self.part = self.home.copy()
        """[N], as `group`, but moved images are where they were: what became of the clusters."""
        self.groups: dict[int, str] = {each: self.fixed.get(each, "") for each in np.unique(self.home).tolist()}
        """Group → its name, "" for none."""
        self.codes: dict[int, str] = {each: str(each) for each in self.groups}
        """Group → how the model numbers it, such as "3", "3b" for a part and "3 + 5" for two."""
        self.root: dict[int, int] = {each: each for each in self.groups}
        """Group → the model's cluster that it was split from, in one step or more; a cluster is its own."""
        self.given: dict[int, Given] = {}
        self.skipped: dict[int, str] = {}
        """Image → NONE or UNSURE, for a question without a label."""
        self.asked = 0
        """Number of questions that were answered, also without a label."""
        self.before: dict[str, str] = {file: row.label for file, row in self.rows.items() if row.label}
        """File → label that was known before, as it is called now."""
        self._next = max([*self.groups, -1]) + 1
        self._classes: dict[str, None] = dict.fromkeys(sorted(set(self.before.values()), key=natural))
        self._classes |= dict.fromkeys(name for name in self.groups.values() if name)

    @property
    def train(self) -> int:
        """Number of training images."""
        return len(self.home)

    def label(self, image: int) -> str | None:
        """Return the label of an image; None if it has none."""
        given = self.given.get(image)
        if given is not None:
            if given.label is not None:
                return given.label or None
            if name := self.groups.get(int(self.group[image]), ""):
                return name
        return self.before.get(self.files[image])

    def how(self, image: int) -> str | None:
        """Return how an image got its label: answer, confirm, move, edit, earlier; None if it has none."""
        if self.label(image) is None:
            return None
        given = self.given.get(image)
        follows = given is not None and (given.label is not None or self.groups.get(int(self.group[image])))
        return given.how if given is not None and follows else "earlier"

    def labels(self) -> dict[int, str]:
        """Return the label of each image that has one."""
        known = {self.place[file]: label for file, label in self.before.items() if file in self.place}
        for image in self.given:
            label = self.label(image)
            if label is not None:
                known[image] = label
            else:
                known.pop(image, None)
        return known

    def classes(self) -> list[str]:
        """Return the classes that a group or a label has, in the order in which they came up."""
        used = {*self.groups.values(), *self.before.values(), *self.labels().values()}
        return [name for name in self._classes if name in used]

    def members(self, group: int) -> NDArray[np.int64]:
        """Return the training images of a group. Raises NotThereError for an unknown one."""
        if group != ASIDE:
            self._check_group(group)
        found: NDArray[np.int64] = np.flatnonzero(self.group == group)
        return found

    def apply(self, action: Action) -> str | None:
        """Do an action, and return a line on what it left out, if anything.

        Raises RefusedError or NotThereError for one that makes no sense; then nothing is changed.
        """
        for image in images_of(action):
            if not 0 <= image < len(self.files) or (image >= self.train and not isinstance(action, Answer)):
                raise NotThereError(f"image {image}: not there, expected 0 to {self.train - 1}")
        work: dict[type[Action], Callable[..., str | None]] = {
            Name: self._name,
            Merge: self._merge,
            Split: self._split,
            Move: self._move,
            Confirm: self._confirm,
            Answer: self._answer,
            Rename: self._rename,
            Edit: self._edit,
        }
        return work[type(action)](action)

    def _check_group(self, group: int) -> None:
        if group not in self.groups:
            raise NotThereError(f"group {group}: not there")

    def _check_free(self, group: int) -> None:
        """Raise an error for a group that is not there, or whose name is that of a class of the model."""
        self._check_group(group)
        if self.fixed:
            raise RefusedError("the groups of a classifier are its classes, and cannot be named, merged or split")

    def _name(self, action: Name) -> str | None:
        self._check_free(action.group)
        old, self.groups[action.group] = self.groups[action.group], action.name
        if not action.name:
            waiting = sum(given.label is None and self.group[i] == action.group for i, given in self.given.items())
            return f"{counted(waiting, 'label')} of this group wait for its name" if waiting else None
        self._classes.setdefault(action.name)
        if not old or old == action.name or old in self.groups.values():
            return None
        count = sum(label == old for label in self.labels().values())
        return (
            f"{counted(count, 'image')} still labelled ‘{old}’; rename the class to change these too" if count else None
        )

    def _merge(self, action: Merge) -> str | None:
        self._check_free(action.group)
        self._check_free(action.into)
        if action.group == action.into:
            raise RefusedError("a group cannot be merged with itself")
        for array in (self.group, self.part):
            array[array == action.group] = action.into
        name, code = self.groups.pop(action.group), self.codes.pop(action.group)
        self.groups[action.into] = kept = self.groups[action.into] or name
        self.codes[action.into] = f"{self.codes[action.into]} + {code}"
        return f"both are called ‘{kept}’ now, the second no longer ‘{name}’" if name and name != kept else None

    def _split(self, action: Split) -> None:
        self._check_free(action.group)
        images = np.array(action.images, np.int64)
        if not len(images) or (self.group[images] != action.group).any():
            raise RefusedError("these images are not all in one group")
        new, self._next = self._next, self._next + 1
        self.group[images] = new
        self.part[images[self.part[images] == action.group]] = new
        self.groups[new], self.root[new] = self.groups[action.group], self.root[action.group]
        code = self.codes[action.group]
        root = f"({code})" if " " in code else code
        taken = set(self.codes.values())
        self.codes[new] = next((root + part for part in PARTS[1:] if root + part not in taken), f"{root} {new}")

    def _move(self, action: Move) -> str | None:
        if action.group is None:
            for image in action.images:
                if self.given.get(image, Given("", "", 0, "")).label is None:
                    del self.given[image]  # its label was that of the group
                self.group[image] = ASIDE
            return None
        self._check_group(action.group)
        for image in action.images:
            self.group[image] = action.group
            self._give(image, "move", None, f"moved to group {self.codes[action.group]}")
        return None if self.groups[action.group] else "a label comes with the group's name"

    def _confirm(self, action: Confirm) -> str | None:
        self._check_group(action.group)
        name = self.groups[action.group]
        if not name:
            raise RefusedError("the group has no name yet")
        elsewhere = [image for image in action.images if self.group[image] != action.group]
        labelled = [image for image in action.images if image not in elsewhere and self.label(image) is not None]
        for image in set(action.images).difference(elsewhere, labelled):
            self._give(image, "confirm", None, f"confirmed in group {self.codes[action.group]}")
        other = sum(self.label(image) != name for image in labelled)
        notes = [f"{len(elsewhere)} no longer in this group"] if elsewhere else []
        notes += [f"{other} with another label, which they keep"] if other else []
        return "; ".join(notes) or None

    def _answer(self, action: Answer) -> None:
        if action.image not in self.skipped and self._how(action.image) != "answer":
            self.asked += 1
        self.skipped.pop(action.image, None)
        if action.label is None:
            self.skipped[action.image] = str(action.why)
            self.given.pop(action.image, None)
            return
        self._give(action.image, "answer", action.label, action.reason or "answered")
        self._classes.setdefault(action.label)
        if action.image >= self.train:
            return
        now = self.groups.get(int(self.group[action.image]))
        called = [group for group, name in self.groups.items() if name == action.label]
        if now and now != action.label and called:
            self.group[action.image] = called[0]

    def _rename(self, action: Rename) -> None:
        if action.name not in self.classes():
            raise RefusedError(f"class ‘{action.name}’: not there")
        if self.fixed and action.name in self.fixed.values():
            raise RefusedError(f"‘{action.name}’ is a class of the model; label images with another name instead")
        self.groups = {group: _renamed(name, action) for group, name in self.groups.items()}
        self.before = {file: _renamed(name, action) for file, name in self.before.items()}
        for given in self.given.values():
            given.label = None if given.label is None else _renamed(given.label, action)
        self._classes = dict.fromkeys(_renamed(name, action) for name in self._classes)

    def _edit(self, action: Edit) -> None:
        for row in action.rows:
            if row.file not in self.place:
                self.rows[row.file] = row
                self.before[row.file] = row.label
                if not row.label:
                    del self.before[row.file]
            else:
                self._give(self.place[row.file], "edit", row.label, row.reason, row.before or None)
            if row.label:
                self._classes.setdefault(row.label)

    def _how(self, image: int) -> str | None:
        return self.given[image].how if image in self.given else None

    def _give(self, image: int, how: str, label: str | None, reason: str, before: str | None = None) -> None:
        earlier = self.given.get(image)
        if earlier is None:
            self.last_number += 1
        number = earlier.number if earlier else self.last_number
        self.given[image] = Given(how, label, number, reason, before)
        if how != "answer":
            self.skipped.pop(image, None)


def _renamed(name: str, action: Rename) -> str:
    return action.to if name == action.name else name
