"""The two tables of the page: labels of images, and names of the model's clusters."""

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sslpipe.data.store import UNKNOWN
from sslpipe.io.files import sha256
from sslpipe.labelling.actions import Edit
from sslpipe.labelling.state import LabelState
from sslpipe.metrics.scored_models import DIGITS, MODEL_DIGEST
from sslpipe.preparation.questions_file import Row

EDITED = "changed in the table"
"""Reason of a label that another program has written, without a reason of its own."""


def label_rows(state: LabelState) -> list[Row]:
    """Return the rows of the table of labels: those known before, and those that were given, in their order.

    A label that was given, or a class that was renamed, is a question with the label `before`, so that it moves no
    image to another split.
    """
    known, number, waiting = [], state.last_number, set(held_back(state))
    for file, row in state.rows.items():
        label = state.before.get(file)
        image = state.place.get(file)
        if label is None or image in state.given or image in waiting:
            continue
        if label != row.label and not row.question:
            number += 1
            row = Row(file, label, str(number), "class renamed", row.group, row.label)
        known.append(Row(file, label, row.question, row.reason, row.group, row.before))
    for image, said in sorted(state.given.items(), key=lambda item: item[1].number):
        if (label := state.label(image)) is not None and image not in waiting:
            file = state.files[image]
            group = int(state.group[image]) if image < state.train else UNKNOWN
            code = state.groups.get(group, "") or state.codes.get(group, "")
            known.append(Row(file, label, str(said.number), said.reason, code, said.before or _before(state, file)))
    return known


def held_back(state: LabelState) -> list[int]:
    """Return the held-out images with a class that no training image has: `prepare` would refuse the table."""
    labels = state.labels()
    trained = {label for image, label in labels.items() if image < state.train}
    return [image for image, label in labels.items() if image >= state.train and label not in trained]


def _before(state: LabelState, file: str) -> str:
    """Return the label by which an image's split was drawn; "" for none."""
    row = state.rows.get(file)
    if row is None:
        return ""
    return row.before if row.question else row.label


def cluster_names(state: LabelState) -> dict[int, str]:
    """Return cluster of the model → its name; of one that was split the names of all parts, as in "cat / dog".

    A cluster without a name is left out.
    """
    names: dict[int, str] = {}
    for cluster in np.unique(state.home).tolist():
        parts = np.unique(state.part[state.home == cluster]).tolist()
        if called := dict.fromkeys(name for part in parts if (name := state.groups.get(part, ""))):
            names[cluster] = " / ".join(called)
    return names


def cluster_table(state: LabelState, model: str) -> bytes:
    """Return the table of clusters, CSV with the columns cluster, class, images and the beginning of a model's hash."""
    text, count = io.StringIO(newline=""), np.bincount(state.home)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cluster", "class", "images", MODEL_DIGEST])
    rows = cluster_names(state).items()
    writer.writerows([cluster, name, int(count[cluster]), model[:DIGITS]] for cluster, name in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def difference(before: Mapping[str, Row], found: Mapping[str, Row]) -> Edit:
    """Return what another program has changed in the table of labels: rows with another label, and "" for removed ones.

    before, found: file → row, as the page wrote it and as it is now.
    """
    rows = []
    for file, row in found.items():
        if file not in before or before[file].label != row.label:
            rows.append(Row(file, row.label, row.question, row.reason or EDITED, row.group, row.before))
    rows += [Row(file, reason=EDITED) for file in before if file not in found]
    return Edit(tuple(rows))


def digest(path: Path) -> str | None:
    """Return the hash of a file; None if it does not exist. Raises UserError if it cannot be read."""
    return sha256(path) if path.exists() else None


def digest_of(data: bytes) -> str:
    """Return the hash of a file with this content."""
    return hashlib.sha256(data).hexdigest()
