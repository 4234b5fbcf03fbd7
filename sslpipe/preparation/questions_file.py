"""Files of questions, which `sslpipe ask` writes: tables of labels whose rows also say what was asked, and why."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from sslpipe.io.errors import UserError
from sslpipe.io.files import write_bytes
from sslpipe.preparation.tables import Column, MissingColumnError, read_table

FILE, LABEL = Column("file"), Column("label")


@dataclass(frozen=True)
class Row:
    """A row of a file of questions; all values are texts."""

    file: str
    """The image, as its source names it."""
    label: str = ""
    """The answer, to be filled in; "" for none."""
    question: str = ""
    """Number of the question, from 1; "" for a label that was not asked for."""
    reason: str = ""
    """Why the image is worth a label."""
    group: str = ""
    """Cluster or class that a model has put it into."""
    before: str = ""
    """Label that the image had before it was asked for; "" for none. Splits are drawn by it."""


COLUMNS = tuple(field.name for field in fields(Row))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table with at least the columns file and label, in any form that `read_table` reads.

    Raises UserError, with the line, for a file that cannot be read or has other columns.
    """
    try:
        table = read_table(path, str(path), FILE, LABEL)
        more = {name: column_of(path, name) or {} for name in COLUMNS[2:]}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return [
        Row(file, (label or "").strip(), **{name: texts.get(number, "") for name, texts in more.items()})
        for number, file, label in table.rows
    ]


def column_of(path: Path, name: str, file: Column = FILE) -> Mapping[int, str] | None:
    """Return the texts of another column by the number of their row; None if the table has no such column."""
    try:
        rows = read_table(path, str(path), file, Column(name)).rows
    except MissingColumnError:
        return None
    return {number: (text or "").strip() for number, _, text in rows}


def questions_in(path: Path, file: Column = FILE) -> dict[int, str]:
    """Return row → label before, "" for none, of each question of a table; {} for a table that `ask` did not write.

    A table of other origin may have a column question, but hardly a column before beside it.
    """
    question = column_of(path, "question", file)
    before = column_of(path, "before", file) if question else None
    if question is None or before is None:
        return {}
    return {number: before.get(number, "") for number, text in question.items() if text}


def rows_bytes(rows: Sequence[Row]) -> bytes:
    """Return a file of questions; names with bytes other than UTF-8 keep these bytes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(attrgetter(*COLUMNS), rows))
    return text.getvalue().encode("utf-8", "surrogateescape")


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a file of questions, whole or not at all."""
    write_bytes(path, rows_bytes(rows))
