"""What a person does on the page: actions, read from requests, and as entries of the journal.

An image is its number on the page, and in the journal its file, so that an entry outlives another order of images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sslpipe.labelling.errors import NotThereError, RefusedError
from sslpipe.preparation.questions_file import Row

NONE, UNSURE = "none", "unsure"
"""Answers without a label: no class fits, and the person does not know."""


@dataclass(frozen=True)
class Name:
    """A group gets a name; "" takes it away."""

    group: int
    name: str


@dataclass(frozen=True)
class Merge:
    """All images of a group go to another."""

    group: int
    into: int


@dataclass(frozen=True)
class Split:
    """Some images of a group become a group of their own."""

    group: int
    images: tuple[int, ...] = ()


@dataclass(frozen=True)
class Move:
    """Images go to another group, whose name is then their label; None sets them aside."""

    images: tuple[int, ...]
    group: int | None


@dataclass(frozen=True)
class Confirm:
    """Images belong to the group that they are in, so its name is their label."""

    images: tuple[int, ...]
    group: int


@dataclass(frozen=True)
class Answer:
    """The answer to "which is it?"."""

    image: int
    label: str | None
    why: str | None = None
    """NONE or UNSURE if there is no label."""
    reason: str = ""
    """Why the image was asked for, in words."""


@dataclass(frozen=True)
class Rename:
    """A class gets another name, in all groups and labels."""

    name: str
    to: str


@dataclass(frozen=True)
class Edit:
    """Rows of the table of labels that another program has changed; those without a label were removed."""

    rows: tuple[Row, ...]


Action = Name | Merge | Split | Move | Confirm | Answer | Rename | Edit
KINDS: Mapping[str, type[Action]] = {
    "name": Name,
    "merge": Merge,
    "split": Split,
    "move": Move,
    "confirm": Confirm,
    "answer": Answer,
    "rename": Rename,
    "edit": Edit,
}
REQUESTS: Mapping[str, Mapping[str, str]] = {
    "name": {"group": "number", "name": "text"},
    "merge": {"group": "number", "into": "number"},
    "split": {"group": "number"},
    "move": {"images": "numbers", "group": "number?"},
    "confirm": {"images": "numbers", "group": "number"},
    "answer": {"image": "number", "label": "text?", "why": "text?"},
    "rename": {"class": "text", "to": "text"},
}
"""What a request of each kind has, beside "id" and "do"."""


def from_request(body: Mapping[str, Any]) -> Action:
    """Return the action of a request. Raises RefusedError for a request of another form."""
    do = body.get("do")
    if not isinstance(do, str) or do not in REQUESTS:
        raise RefusedError(f"do: {do!r} found, expected one of {', '.join(REQUESTS)} and undo")
    values = {name: _checked(do, name, body.get(name), kind) for name, kind in REQUESTS[do].items()}
    if do == "rename":
        return Rename(values["class"], values["to"])
    if do == "answer" and (values["label"] is None) != (values["why"] in (NONE, UNSURE)):
        raise RefusedError(f"answer: expected a label, or null with a why of {NONE!r} or {UNSURE!r}")
    return KINDS[do](**values)


def _checked(do: str, name: str, value: Any, kind: str) -> Any:
    if kind.endswith("?"):
        if value is None:
            return None
        kind = kind[:-1]
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "number" and type(value) is int:
        return value
    if kind == "numbers" and isinstance(value, list) and all(type(each) is int for each in value) and value:
        return tuple(dict.fromkeys(value))
    expected = {"text": "a text", "number": "a whole number", "numbers": "a list of whole numbers"}[kind]
    raise RefusedError(f"{do}: {name}: {value!r:.60} found, expected {expected}")


def to_entry(action: Action, files: Sequence[str]) -> dict[str, Any]:
    """Return an action as an entry of the journal. files: of the images on the page."""
    do = next(name for name, kind in KINDS.items() if isinstance(action, kind))
    entry = {"do": do, **asdict(action)}
    if isinstance(action, Edit):
        entry["rows"] = [list(asdict(row).values()) for row in action.rows]
    elif isinstance(action, Split | Move | Confirm):
        entry["images"] = [files[image] for image in action.images]
    elif isinstance(action, Answer):
        entry["image"] = files[action.image]
    return entry


def from_entry(entry: Mapping[str, Any], place: Mapping[str, int]) -> Action:
    """Return the action of an entry; images that are no longer there are left out.

    place: file → number of its image on the page. Raises NotThereError if none of its images is there.
    """
    kind = KINDS[entry["do"]]
    values = {field.name: entry[field.name] for field in fields(kind)}
    if kind is Edit:
        return Edit(tuple(Row(*row) for row in values["rows"]))
    if "images" in values:
        values["images"] = tuple(place[file] for file in values["images"] if file in place)
        if not values["images"]:
            raise NotThereError(f"none of the images of {entry['do']!r} is there any more")
    if "image" in values:
        if values["image"] not in place:
            raise NotThereError(f"{values['image']}: this image is not there any more")
        values["image"] = place[values["image"]]
    return kind(**values)


def images_of(action: Action) -> tuple[int, ...]:
    """Return the images that an action is about; () for those about groups and classes."""
    if isinstance(action, Answer):
        return (action.image,)
    return action.images if isinstance(action, Split | Move | Confirm) else ()
