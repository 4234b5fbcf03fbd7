"""What the sub-folders of a folder of images mean: parts (train, test), classes, or nothing.

The usual layouts are recognised from the names of the images alone. A doubtful one is refused with the names that make
it doubtful; the setting `layout` decides then.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sslpipe.decoding.entries import Part
from sslpipe.io.errors import UserError
from sslpipe.io.text import counted, listed, shown
from sslpipe.preparation.class_folders import doubts, folders_listed, holds_any_class
from sslpipe.preparation.part_names import PartFolder, part_named

LayoutName = Literal["flat", "classes", "parts"]
"""flat: the sub-folders mean nothing. classes: each sub-folder is a class. parts: sub-folders such as train/ and test/,
each of which may have a sub-folder for each class."""
WHERE = "prepare.folder.path"
ASK = "or say what the folders are: --layout (prepare.folder.layout) flat, classes or parts"


@dataclass(frozen=True)
class Layout:
    """The meaning of the sub-folders of a folder of images."""

    name: LayoutName
    base: str
    """Folder whose sub-folders are meant, such as photos/; empty for the folder itself."""
    images: Mapping[str, tuple[Part | None, str | None]]
    """Image → its part and its class, None if unknown; without the images that are left out."""
    folders: Mapping[str, PartFolder] = field(default_factory=dict)
    """Folder → the part that it is, for the layout parts."""
    notes: Sequence[str] = ()
    """What was left out or needs a word, a sentence each."""


def read_layout(images: Sequence[str], layout: LayoutName | None, *, labelled: Mapping[str, str]) -> Layout:
    """Return the meaning of the sub-folders of a folder.

    images: names of the images, relative to the folder, with "/". layout: None for the one that is recognised.
    labelled: image → its label, where labels are given otherwise; where there are any, sub-folders are no classes.
    A folder that is alone in its folder, such as photos/ in photos/cat and photos/dog, is searched for sub-folders
    instead. Raises UserError, with names, for a layout that is doubtful or not there.
    """
    base = _below_lone_folders(images, "")
    loose, groups = _split(images, base)
    if layout == "parts" or (layout is None and _has_parts(loose, groups, base)):
        return _parts(base, loose, groups, layout, labelled)
    if layout == "flat" or labelled or (layout is None and not groups):
        notes = [_not_a_class(base)] if base and not groups and layout is None and not labelled else []
        if layout == "classes":  # as of a project that gets labels later
            notes.append("sub-folders are no classes, since a table has labels")
        return Layout("flat", base, dict.fromkeys(images, (None, None)), notes=notes)
    classes, notes = _classes(base, loose, groups, layout)
    return Layout("classes", base, {image: (None, classes.get(image)) for image in images}, notes=notes)


def _split(images: Iterable[str], base: str) -> tuple[list[str], dict[str, list[str]]]:
    """Return the images beside the sub-folders of the folder `base`, and sub-folder → all images below it."""
    loose: list[str] = []
    groups: dict[str, list[str]] = {}
    for image in images:
        folder, slash, _ = image[len(base) :].partition("/")
        if slash:
            groups.setdefault(folder, []).append(image)
        else:
            loose.append(image)
    return loose, groups


def _below_lone_folders(images: Iterable[str], base: str, classes: Collection[str] = ()) -> str:
    """Return the path of the first folder from `base` downwards with images, several sub-folders of images, or a class.

    classes: names of sub-folders that are known to be classes.
    """
    loose, groups = _split(images, base)
    while not loose and len(groups) == 1:
        (folder,) = groups
        if folder in classes:
            break
        base += f"{folder}/"
        loose, groups = _split(groups[folder], base)
    return base


def _has_parts(loose: Sequence[str], groups: Mapping[str, Sequence[str]], base: str) -> bool:
    """Return whether sub-folders have the usual names of parts, even if others do not."""
    names = [name for name in groups if part_named(name)]
    if len(names) == 1 and names[0].lower() == "train" and len(groups) > 2:
        # Beside bus/ and car/, train/ is a class if it has no sub-folders either.
        return bool(_split(groups[names[0]], f"{base}{names[0]}/")[1])
    return bool(names)


def _parts(
    base: str,
    loose: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    layout: LayoutName | None,
    labelled: Mapping[str, str],
) -> Layout:
    """Return the layout of sub-folders that are parts."""
    folders = {name: part for name in groups if (part := part_named(name))}
    others = [name for name in groups if name not in folders]
    if not folders:
        raise UserError(
            f"{WHERE}: no sub-folder has the name of a part, such as train or test; found {folders_listed(groups)}"
        )
    if (others or loose) and layout is None:
        what = folders_listed(others) if others else f"{counted(len(loose), 'image')} ({listed(loose)})"
        parts = f"{'the part' if len(folders) == 1 else 'the parts'} {folders_listed(folders)}"
        raise UserError(f"{WHERE}: {what} beside {parts}; move them into a part such as train/ or away, {ASK}")
    names: dict[PartFolder, str] = {}
    for name, part in folders.items():
        if part in names:
            raise UserError(f"{WHERE}: {names[part]}/ and {name}/ have the name of the same part; rename or move one")
        names[part] = name
    if not any(part.part == "train" for part in folders.values()):
        raise UserError(f"{WHERE}: no train/ beside {folders_listed(folders)}; rename a folder, {ASK}")
    notes = []
    if others or loose:
        count = len(loose) + sum(len(groups[name]) for name in others)
        where = listed([*(f"{name}/" for name in others), *loose])
        notes.append(f"{counted(count, 'image')} beside the parts left out ({where})")
    images: dict[str, tuple[Part | None, str | None]] = {}
    train_classes: set[str] = set()
    for name, part in sorted(folders.items(), key=lambda item: (item[1].part != "train", item[0])):
        found = groups[name]
        classes: Mapping[str, str] = {}
        if part.labelled and not any(image in labelled for image in found):
            classes, more = _classes_of_part(f"{base}{name}/", found, layout, train_classes)
            notes += more
        if part.part == "train":
            train_classes |= {*classes.values(), *(labelled[image] for image in found if image in labelled)}
        images |= {image: (part.part, classes.get(image)) for image in found}
    return Layout("parts", base, images, {base + name: part for name, part in folders.items()}, notes)


def _classes_of_part(
    folder: str, images: Sequence[str], layout: LayoutName | None, known: Collection[str]
) -> tuple[Mapping[str, str], list[str]]:
    """Return image → class in the folder of a part, and notes. known: the classes of the training images."""
    base = _below_lone_folders(images, folder)
    loose, groups = _split(images, base)
    if not (groups and set(groups) <= set(known)):  # perhaps images of one class only
        base = _below_lone_folders(images, folder, known)
        loose, groups = _split(images, base)
    if not groups:
        lone = base[len(folder) :].rstrip("/").rpartition("/")[2]
        return {}, [] if not lone or holds_any_class(lone) else [_not_a_class(base)]
    return _classes(base, loose, groups, layout)


def _classes(
    base: str, loose: Sequence[str], groups: Mapping[str, Sequence[str]], layout: LayoutName | None
) -> tuple[Mapping[str, str], list[str]]:
    """Return image → class, for sub-folders that are classes, and notes. loose: the images beside them."""
    notes = []
    if not groups:
        found = f"the only class folder is {base}" if base else "no class folder has images"
        raise UserError(f"{WHERE}: {found}, expected at least 2; --layout (prepare.folder.layout) flat takes none")
    if loose and layout is None:
        raise UserError(
            f"{WHERE}: {counted(len(loose), 'image')} ({listed(loose)}) beside {folders_listed(groups)}; "
            f"move one or the other away, {ASK}"
        )
    if loose:
        notes.append(f"no label for {counted(len(loose), 'image')} beside the class folders ({listed(loose)})")
    inner = {name: [image[len(base) + len(name) + 1 :] for image in found] for name, found in groups.items()}
    for doubt in doubts(inner):
        if layout is None:
            raise UserError(f"{WHERE}: {doubt}, {ASK}")
        notes.append(doubt)
    return {image: name for name, found in groups.items() for image in found}, notes


def _not_a_class(folder: str) -> str:
    return f"{shown(folder)} is the only sub-folder and not taken as a class"
