"""The rows of a file of questions: answers and labels that are kept, and new questions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sslpipe.data.store import UNKNOWN, Store
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.params import Params
from sslpipe.io.text import counted, valid_text
from sslpipe.preparation.questions_file import Row, column_of, questions_in, read_rows
from sslpipe.sources import folder

KNOWN = "known before"
"""Reason of a row with a label that was not asked for."""


@dataclass(frozen=True)
class Origin:
    """What the source of the images knows of labels."""

    name: Mapping[str, str] = field(default_factory=dict)
    """Name of an image in the store → its name in the source, if that has bytes other than UTF-8."""
    label: Mapping[str, str] = field(default_factory=dict)
    """Image → its label, from a table or its folder; a new table takes the place of these, so it has them as well. If
    the source has all labels, only those that training may use."""
    rows: tuple[Row, ...] = ()
    """Rows of the tables that are files of questions."""
    tables: tuple[Path, ...] = ()
    """The project's tables of labels."""
    complete: bool = True
    """Whether the source has a label of every image, so that questions are an experiment."""


def read_origin(project: Params, store: Store) -> Origin:
    """Return what the source of a project knows. Raises UserError if its folder of images cannot be read."""
    files = store.files("train")
    used = {files[i]: store.classes[label] for i, label in zip(*store.labelled(), strict=True)}
    if (project.tree.get("prepare") or {}).get("source") != "folder":
        return Origin(label=used)
    settings = project.parse(folder.Settings, "prepare.folder")
    source, tables = folder.Source(settings), settings.tables()
    names = {valid_text(entry.name): entry.name for entry in source.entries}
    label = {entry.name: source.classes[entry.label] for entry in source.entries if entry.label != UNKNOWN}
    asked = [table for table in tables if questions_in(table)]
    rows = tuple(row for table in asked for row in read_rows(table))
    complete = len(label) == len(source.entries)
    return Origin(
        {name: real for name, real in names.items() if name != real},
        {names[name]: text for name, text in used.items()} if complete else label,
        rows,
        tables,
        complete,
    )


def read_kept(out: Path, origin: Origin) -> dict[str, Row]:
    """Return image → row of each label that the new file keeps: answers in the file and in the project's tables.

    A line says how many questions of the file without an answer are replaced. Raises UserError for a file that is no
    file of questions, which is then not overwritten.
    """
    rows: list[Row] = []
    if out.exists():
        rows = read_rows(out)
        if rows and column_of(out, "before") is None:
            raise UserError(f"--out: {out} was not written by 'sslpipe ask'; name another file, or move it away")
    found = {row.file: row for row in (*origin.rows, *rows)}
    labels = [(name, row, row.label or origin.label.get(name, "")) for name, row in found.items()]
    kept = {name: replace(row, label=label) for name, row, label in labels if label}
    kept |= {name: Row(name, text, reason=KNOWN) for name, text in origin.label.items() if name not in kept}
    if open_questions := [row for row in rows if not row.label and row.file not in kept]:
        info(
            f"{out}: {counted(len(open_questions), 'question')} without an answer replaced by the new ones, "
            f"{counted(len(rows) - len(open_questions), 'row')} with a label kept"
        )
    return kept


def last_number(rows: Mapping[str, Row]) -> int:
    """Return the highest number of a question, 0 for none."""
    return max((int(row.question) for row in rows.values() if row.question.isdecimal()), default=0)
