"""Journal and tables on the disk, and the state that they lead to."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import write_bytes
from sslpipe.io.text import counted
from sslpipe.labelling.actions import Action, Edit, from_entry, images_of, to_entry
from sslpipe.labelling.collection import Collection
from sslpipe.labelling.errors import NotThereError, RefusedError
from sslpipe.labelling.journal import Journal
from sslpipe.labelling.label_tables import cluster_names, cluster_table, difference, digest, digest_of, label_rows
from sslpipe.labelling.state import LabelState
from sslpipe.preparation.questions_file import Row, rows_bytes
from sslpipe.tools.ask_rows import last_number, read_kept

OTHERS = ("base", "saved", "result", "undo")
"""Entries that are no actions."""


class Records:
    """What was done, on disk: an action is in the journal first, then in the tables, and only then answered."""

    def __init__(self, collection: Collection, journal: Path, labels: Path, clusters: Path) -> None:
        """Read journal and tables. What a killed process did not write is written, and labels that another program has
        changed are taken over.

        Raises UserError for files that cannot be read or written, and for a table that the page did not write.
        """
        self.labels, self.clusters = labels, clusters
        self.journal = Journal(journal)
        self.problem: str | None = None
        """Why a table could not be written; the journal has what it lacks."""
        self.notes: list[str] = []
        """Sentences on what was left out or taken over."""
        self.load(collection)

    def load(self, collection: Collection) -> None:
        """Take the images and groups of a collection: at the start, and after a run."""
        self.collection = collection
        kept = read_kept(self.labels, collection.origin)
        base = self._base()
        if base is None:
            self.journal.begin(self._base_entry(kept))
        elif base["key"] != collection.key:
            self._begin_other_model(kept)
        self.rebuild()
        self._check_clusters()
        self._take_over(kept)
        if self._unsaved() or not self.labels.exists():
            self.save()

    def do(self, action: Action, identity: str | None) -> str | None:
        """Do an action, write it, and return a line on what it left out, if anything.

        Raises RefusedError and NotThereError for one that makes no sense, and UserError if the journal cannot be
        written; then nothing is done.
        """
        message = self.state.apply(action)
        entry = {**to_entry(action, self.collection.files), **({"id": identity} if identity else {})}
        try:
            self.done.append(self.journal.append(entry))
        except UserError:
            self.rebuild()
            raise
        self.save()
        return message

    def undo(self, identity: str) -> None:
        """Undo the last action that is not undone; errors as of `do`."""
        if not self.done:
            raise RefusedError("nothing to undo")
        self.journal.append({"id": identity, "do": "undo", "undoes": self.done[-1]["id"]})
        self.rebuild()
        self.save()

    def save(self) -> None:
        """Write the tables, if they differ from what they are; `problem` says if that was not possible."""
        try:
            if self._changed_by_others():
                self._take_over(read_kept(self.labels, self.collection.origin))
            rows, names = label_rows(self.state), cluster_names(self.state)
            if rows or self.labels.exists():
                _write(self.labels, rows_bytes(rows))
            if self.collection.kind == "groups" and (names or self.clusters.exists()):
                self._check_clusters()
                _write(self.clusters, cluster_table(self.state, self.collection.key))
            saved = {"labels": digest(self.labels), "clusters": digest(self.clusters)}
            if saved != self._saved() or self._unsaved():
                self.journal.append({"do": "saved", **saved})
            self.problem = None
        except UserError as error:
            self.problem = f"{error}; the journal has every answer, and the tables are written again with the next one"

    def labels_written(self) -> bool:
        """Return whether the table of labels on disk is what the actions lead to."""
        rows = label_rows(self.state)
        return digest(self.labels) == (digest_of(rows_bytes(rows)) if rows or self.labels.exists() else None)

    def rebuild(self) -> None:
        """Do all actions again that are not undone."""
        base = self._base()
        assert base is not None
        known = {row.file: row for row in (Row(*row) for row in base["rows"])}
        fixed = self.collection.fixed if self.collection.kind == "classes" else {}
        self.state = LabelState(self.collection.files, self.collection.home, known, last_number(known), fixed)
        self.done: list[dict[str, Any]] = []
        """The entries of the actions that hold."""
        gone = 0
        for entry in self.journal.standing(after=base):
            if entry["do"] not in OTHERS:
                try:
                    self.state.apply(from_entry(entry, self.state.place))
                    self.done.append(entry)
                except (NotThereError, RefusedError):
                    gone += 1
        if gone:
            self._note(f"{counted(gone, 'action')} left out: their images or groups are no longer there")

    def _base(self) -> dict[str, Any] | None:
        """The last entry with the labels that were known before its actions."""
        return next((entry for entry in reversed(self.journal.entries) if entry.get("do") == "base"), None)

    def _base_entry(self, kept: Mapping[str, Row]) -> dict[str, Any]:
        rows = [list(asdict(row).values()) for row in kept.values()]
        return {"do": "base", "key": self.collection.key, "rows": rows}

    def _saved(self) -> dict[str, str | None]:
        """The hashes of the tables as the page wrote them last."""
        saved = (entry for entry in reversed(self.journal.entries) if entry.get("do") == "saved")
        entry: dict[str, Any] = next(saved, {})
        return {name: entry.get(name) for name in ("labels", "clusters")}

    def _unsaved(self) -> list[dict[str, Any]]:
        """The entries since the tables were last written."""
        later: list[dict[str, Any]] = []
        for entry in reversed(self.journal.entries):
            if entry.get("do") in ("saved", "base"):
                break
            later.append(entry)
        return [entry for entry in later if entry["do"] != "result"]

    def _begin_other_model(self, kept: Mapping[str, Row]) -> None:
        """Keep the labels; names and parts of groups were those of another model."""
        answers = [entry for entry in reversed(self._unsaved()) if entry["do"] == "answer"]
        named = any(entry["do"] == "name" for entry in self.journal.standing())
        self.journal.append(self._base_entry(kept))
        for entry in answers:
            self.journal.append({name: value for name, value in entry.items() if name != "id"})
        if named:
            self._note("the groups are those of another model than before: labels are kept, names of groups are not")

    def _changed_by_others(self) -> bool:
        """Whether the table of labels is neither what the page wrote last, nor what it would write, nor missing."""
        found = digest(self.labels)
        if found in (None, self._saved()["labels"]):
            return False
        return found != digest_of(rows_bytes(label_rows(self.state)))

    def _take_over(self, kept: Mapping[str, Row]) -> None:
        """Take over what the table of labels has now, but for images that actions since are about."""
        if not self.labels.exists() and self._saved()["labels"] is not None:
            return self._note(f"{self.labels} was gone; it is written again")
        own, unsaved = set[str](), self._unsaved()
        for entry in unsaved:
            if entry["do"] == "undo" or entry["do"] in ("name", "merge", "rename", "edit"):
                own |= {self.state.files[image] for image in self.state.given}
            else:
                own |= {self.state.files[image] for image in images_of(from_entry(entry, self.state.place))}
        before = {row.file: row for row in label_rows(self.state)}
        changed = difference(before, kept)
        edit = Edit(tuple(row for row in changed.rows if row.file not in own))
        if edit.rows:
            self.state.apply(edit)
            self.done.append(self.journal.append(to_entry(edit, self.collection.files)))
            removed = sum(not row.label for row in edit.rows)
            counts = {"changed": len(edit.rows) - removed, "removed": removed}
            what = " and ".join(f"{counted(count, 'label')} {done}" for done, count in counts.items() if count)
            self._note(f"{self.labels}: {what} by another program, taken over")
        return None

    def _check_clusters(self) -> None:
        """Raise UserError if the table of clusters is neither what the page wrote last, nor what it would write."""
        if self.collection.kind != "groups" or (found := digest(self.clusters)) is None:
            return
        known = {entry.get("clusters") for entry in self.journal.entries if entry.get("do") == "saved"}
        if found not in known | {digest_of(cluster_table(self.state, self.collection.key))}:
            raise UserError(
                f"{self.clusters}: not as this page wrote it, and would be overwritten; move it away, or name another "
                "file with --clusters"
            )

    def _note(self, line: str) -> None:
        self.notes.append(line)
        info(line)


def _write(path: Path, data: bytes) -> None:
    """Write a file unless it has this content."""
    if digest(path) != digest_of(data):
        write_bytes(path, data)
