"""Images copied or linked into a folder for each predicted group or class, and lists of those to look at."""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_folder
from sslpipe.io.text import counted, listed, shown
from sslpipe.tools.prediction_table import read_rows

UNUSABLE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\u0085\u2028\u2029]')
"""Characters that a folder's name cannot have on some system."""
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
LONGEST = 200
"""Bytes of a folder's name in UTF-8 (own choice: file systems have 255, from which a number is added)."""
LISTED = 20
"""Images to review that are printed (own choice: a screen)."""


@dataclass(frozen=True)
class Predicted:
    """The prediction of an image."""

    path: Path
    prediction: str
    confidence: float


def read_predictions(table: Path, paths: Sequence[Path]) -> list[Predicted]:
    """Return the predictions that `predict` has written to a table; broken images are left out.

    paths: of the images, in the order of the table's rows.
    """
    rows = read_rows(table)
    return [
        Predicted(path, row["prediction"], float(row["confidence"]))
        for path, row in zip(paths, rows, strict=True)
        if not row["error"]
    ]


def check_folder(folder: Path, images: Sequence[Path] = ()) -> None:
    """Raise UserError unless a folder does not exist or is empty, and is outside of the folders among `images`."""
    for path in images:
        if path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
            raise UserError(f"--sort-into: {folder} is inside of {path}, expected a folder outside of the images")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--sort-into: {folder} is a file; name a folder")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--sort-into: {folder} is not empty; name a new folder")


def sort_into(folder: Path, predictions: Sequence[Predicted], *, link: bool) -> None:
    """Copy images into a folder for each prediction, or write symbolic links to them; all are there or none.

    Images of one name are numbered, as in "1.png" and "1 (2).png". A line names the predictions whose folder has
    another name. Raises UserError if the folder is not empty, and for an image that cannot be read.
    """
    check_folder(folder)
    folders = folder_names(dict.fromkeys(each.prediction for each in predictions))
    changed = [f"{shown(name)} → {used}" for name, used in folders.items() if name != used]
    if changed:
        info(f"--sort-into: {counted(len(changed), 'folder')} with another name: {listed(changed)}")
    taken: dict[str, set[str]] = defaultdict(set)
    with atomic_folder(folder) as partial:
        for each in predictions:
            place = partial / folders[each.prediction]
            place.mkdir(exist_ok=True)
            target = place / free_name(each.path.name, taken[place.name])
            if link:
                target.symlink_to(os.path.abspath(each.path))
            else:
                _copy(each.path, target)
    info(f"{folder}: {counted(len(predictions), 'image')} {'linked' if link else 'copied'} into {len(folders)} folders")


def _copy(source: Path, target: Path) -> None:
    """Copy a file; raises UserError if it cannot be read, and OSError, of the target, if it cannot be written."""
    try:
        shutil.copy2(source, target)
    except OSError as error:
        # An error while bytes are copied has both names, the target's second.
        if error.filename2 is not None:
            raise OSError(error.errno, error.strerror, str(target)) from None
        if str(error.filename) == str(source):
            raise UserError(f"{source}: cannot be read: {error.strerror}") from None
        raise


def folder_names(predictions: Iterable[str]) -> dict[str, str]:
    """Return a folder's name for each prediction: usable on every system, and no two alike but for case."""
    taken: set[str] = set()
    return {name: free_name(_usable(name), taken) for name in predictions}


def _usable(name: str) -> str:
    usable = UNUSABLE.sub("_", name).encode()[:LONGEST].decode(errors="ignore").strip(" .")
    return f"_{usable}" if not usable or RESERVED.fullmatch(usable) else usable


def free_name(name: str, taken: set[str]) -> str:
    """Return a name that is not among those taken, ignoring case: itself, or numbered; it is then taken as well."""
    stem, suffix = os.path.splitext(name)
    found, number = name, 1
    while found.casefold() in taken:
        number += 1
        found = f"{stem} ({number}){suffix}"
    taken.add(found.casefold())
    return found


def review(predictions: Sequence[Predicted], below: float, table: Path) -> None:
    """Print the images whose confidence is below a value, the least confident first, LISTED of them at most."""
    found = sorted((each for each in predictions if each.confidence < below), key=lambda each: each.confidence)
    info(f"{len(found):,} of {counted(len(predictions), 'image')} with a confidence below {below:g}")
    for each in found[:LISTED]:
        info(f"  {each.confidence:.4f}  {shown(each.prediction)}  {shown(str(each.path))}")
    if len(found) > LISTED:
        info(f"  and {len(found) - LISTED:,} more: sort {table} by its column confidence")
