"""Labelled images that were chosen, not drawn: those that a table names, or whose labels were asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import CHOSEN, UNKNOWN, Split
from sslpipe.decoding.entries import Entry
from sslpipe.io.errors import UserError
from sslpipe.io.files import project_path, write_json
from sslpipe.io.text import counted
from sslpipe.preparation.questions_file import read_rows
from sslpipe.preparation.splits import Labelled
from sslpipe.preparation.tables import quoted

KEY = "prepare.labelled.images"


@dataclass(frozen=True)
class Listed:
    """The images of a table, as indices of a source's entries."""

    table: str
    entries: frozenset[int]
    """Those that are training images with a label."""
    left_out: int
    """Number of rows of held-out images, which are not trained on."""

    def keep(self, written: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places in `written`, [N] indices of entries, of these images, ascending."""
        return np.flatnonzero([entry in self.entries for entry in written.tolist()])

    def line(self, used: int) -> str:
        """Describe which images are labelled. used: their number."""
        broken = len(self.entries) - used
        more = [f"{self.left_out} held-out images of it are not trained on"] if self.left_out else []
        more += [f"{broken} of it could not be decoded"] if broken else []
        return f"{counted(used, 'labelled image')} of {self.table}, chosen, not drawn{''.join(f'; {m}' for m in more)}"


def listed_images(
    labelled: Labelled | None, entries: Sequence[Entry], drawn: dict[Split, NDArray[np.int64]]
) -> Listed | None:
    """Return the labelled images that the table `images` names; None without a table. drawn: splits of the entries.

    Rows of held-out images are left out, and so are rows of test images that were no questions.
    Raises UserError for a row that names no image, a question about a test image, and an image without a label.
    """
    if labelled is None or labelled.images is None:
        return None
    table = labelled.images
    place = {entry.name: index for index, entry in enumerate(entries)}
    split = {int(index): name for name, indices in drawn.items() for index in indices}
    found: set[int] = set()
    left_out = 0
    for row in read_rows(project_path(table)):
        index = place.get(row.file)
        if index is None:
            raise UserError(f"{KEY}: {quoted(row.file)} in {table} is no image of the source")
        if split[index] == "test" and row.question:
            raise UserError(
                f"{KEY}: {quoted(row.file)} in {table} is a test image with this seed and these splits, expected a "
                "training image; ask again in this project"
            )
        if split[index] != "train":
            left_out += split[index] == "held_out"
        elif entries[index].label == UNKNOWN:
            raise UserError(f"{KEY}: {quoted(row.file)} in {table} has no label in the source")
        else:
            found.add(index)
    return Listed(table, frozenset(found), left_out)


def write_chosen(folder: Path, listed: Listed | None, entries: Sequence[Entry], labelled: NDArray[np.int64]) -> None:
    """Write to a folder how many labelled images were chosen, unless all were drawn.

    labelled: [L], the entries of the labelled images.
    """
    chosen = len(labelled) if listed else sum(entries[index].asked for index in labelled.tolist())
    if chosen:
        write_json(folder / CHOSEN, {"chosen": chosen, "labelled": len(labelled)})
