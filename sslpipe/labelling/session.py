"""What the page asks of the project: one session for all its tabs."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sslpipe.io.console import info
from sslpipe.io.text import counted
from sslpipe.labelling import page_data
from sslpipe.labelling.actions import Action, Answer, Name, Rename, Split, from_request
from sslpipe.labelling.changes import changes
from sslpipe.labelling.collection import Collection, Folders
from sslpipe.labelling.errors import RefusedError
from sslpipe.labelling.label_tables import cluster_names, held_back
from sslpipe.labelling.names import class_name
from sslpipe.labelling.pictures import Pictures
from sslpipe.labelling.records import Records
from sslpipe.labelling.rerun import Command, Rerun, State
from sslpipe.labelling.results import Prediction, accuracy, advice, known_labels, predicted
from sslpipe.labelling.state import ASIDE, LabelState
from sslpipe.labelling.steps import steps
from sslpipe.reporting.summary import title_of_project

TAB_SECONDS = 8.0
"""Seconds after its last request in which a tab counts as open; it asks every two."""
ASKED = 10
"""Questions that are handed out at once."""
LONGEST_ID = 100
"""Most characters of an action's "id" (own choice)."""


class Session:
    """A project that a person labels. Its methods may be called from several threads at once."""

    def __init__(self, collection: Collection, records: Records, reopen: Callable[[], Collection]) -> None:
        self._collection, self._records, self._reopen = collection, records, reopen
        self._lock = threading.RLock()
        self._tabs: dict[str, float] = {}
        self._tabs_lock = threading.Lock()
        self._pictures = Pictures(collection.store)
        self._version = 0
        self._rerun = Rerun(Path())
        self._reasons: dict[int, str] = {}
        """Image → why it was asked for, of the questions that were handed out."""
        self._changes: dict[str, Any] = {"after": None, "note": "Nothing has been learned in this sitting yet."}
        self._refresh()

    @classmethod
    def open(
        cls,
        params: Path,
        seed: int | None,
        folders: Folders,
        *,
        labels: Path | None,
        clusters: Path,
        journal: Path,
        device: torch.device,
    ) -> "Session":
        """Open a project.

        labels: its table of labels; None for the project's file of questions, or else labels.csv. Raises UserError for
        stages that have not run, and for files that cannot be read or written.
        """

        def reopen() -> Collection:
            return Collection.open(params, seed, folders, device)

        collection = reopen()
        table = labels or collection.table or Path("labels.csv")
        return cls(collection, Records(collection, journal, table, clusters), reopen)

    def state(self, page: str, since: int | None) -> dict[str, Any]:
        """Return what all views show; of a version that the tab has, only what may have changed without an action."""
        self._see_tab(page)
        snapshot = self._snapshot  # once, so that the version is that of the state
        return self._live(snapshot) if since == snapshot["version"] else self._whole(snapshot)

    def group(self, group: int) -> dict[str, Any]:
        """Return the images of a group. Raises NotThereError for an unknown one."""
        with self._lock:
            return page_data.group_part(self._collection, self._state, group)

    def questions(self) -> dict[str, Any]:
        """Return the next questions."""
        with self._lock:
            collection, state = self._collection, self._state
            labels, checked = known_labels(collection, state)
            asked = collection.asker.questions(
                labels, ASKED, seed=collection.project.seed, place=state.asked, checked=checked
            )
            parts = [page_data.question_part(collection, state, question) for question in asked]
            self._reasons |= {part["image"]: part["reason"] for part in parts}
        none = "No more questions: each training image has a label or an answer, or is a copy of one with a label."
        return {"questions": parts, "note": None if parts else none}

    def changes(self) -> dict[str, Any]:
        """Return what the last run of this sitting changed."""
        return self._changes

    def act(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Do an action, once for each "id". Raises RefusedError and NotThereError for one that makes no sense."""
        identity = action.get("id")
        if not isinstance(identity, str) or not 0 < len(identity) <= LONGEST_ID:
            raise RefusedError(f"id: {identity!r:.40} found, expected a text of up to {LONGEST_ID} characters")
        with self._lock:
            message = None
            if not self._records.journal.has(identity):
                if action.get("do") == "undo":
                    self._records.undo(identity)
                else:
                    completed, adopted = self._completed(from_request(action))
                    said = self._records.do(completed, identity)
                    message = "; ".join(line for line in (adopted, said) if line) or None
            self._refresh()
            return {"message": message, "state": self._whole(self._snapshot)}

    def run(self) -> dict[str, Any]:
        """Start the pipeline with the labels as they are. Raises RefusedError if it cannot run."""
        with self._lock:
            commands, why = self._steps()
            if why is not None:
                raise RefusedError(why)
            self._records.save()
            if not self._records.labels_written():
                self._refresh()
                raise RefusedError(f"nothing learned: {self._records.problem}")
            before = predicted(self._collection, self._state)
            if not any(entry.get("do") == "result" for entry in self._records.journal.entries):
                self._add_result(before)
            self._rerun.start(commands, lambda outcome: self._learned(outcome, before))
            self._refresh()
            return {"message": None, "state": self._whole(self._snapshot)}

    def stop(self) -> dict[str, Any]:
        """End a run."""
        self._rerun.stop()
        return {"message": None, "state": self._whole(self._snapshot)}

    def picture(self, image: int, *, large: bool) -> tuple[bytes, str]:
        """Return the file of an image's picture and its media type. Raises NotThereError for an unknown one."""
        return self._pictures.picture(image, large=large)

    def last_line(self) -> str:
        """Return what is on the disk, in words."""
        given = self._snapshot["state"]["answers"]["given"]
        files = f"{counted(given, 'label')} in {self._records.labels}"
        names = len(cluster_names(self._state)) if self._collection.kind == "groups" else 0
        return f"{files}, {counted(names, 'name')} of groups in {self._records.clusters}" if names else files

    @property
    def _state(self) -> LabelState:
        return self._records.state

    def _completed(self, action: Action) -> tuple[Action, str | None]:
        """Return an action with what the page does not know of it, and a line on a name that is spelled otherwise."""
        collection, state = self._collection, self._state
        if isinstance(action, Split):
            images = state.members(action.group)
            part = collection.halves(images, seed=collection.project.seed)
            if action.group == ASIDE or not len(part):
                raise RefusedError("the images of this group are alike, so it cannot be split")
            return Split(action.group, tuple(part.tolist())), None
        if isinstance(action, Answer):
            if action.label is None:
                return Answer(action.image, None, action.why, self._reasons.get(action.image, "")), None
            name, line = self._named(action.label)
            return Answer(action.image, name, None, self._reasons.get(action.image, "")), line
        if isinstance(action, Name) and action.name.strip():
            name, line = self._named(action.name)
            return Name(action.group, name), line
        if isinstance(action, Rename):
            others = [other for other in state.classes() if other != action.name]
            return Rename(action.name, class_name(action.to, others, collection.no_label)), None
        return (Name(action.group, "") if isinstance(action, Name) else action), None

    def _named(self, text: str) -> tuple[str, str | None]:
        """Return the class that a text means, and a line if it is spelled otherwise."""
        name = class_name(text, self._state.classes(), self._collection.no_label)
        return name, f"‘{name}’, as the class is spelled" if name != text.strip() else None

    def _steps(self) -> tuple[Sequence[Command], str | None]:
        """Return the commands of a run, and why it cannot run, if so."""
        labels, _ = known_labels(self._collection, self._state, written=True)
        return steps(self._collection.project, self._records.labels, labels, complete=self._collection.origin.complete)

    def _learned(self, outcome: State, before: Prediction) -> None:
        """Take over what a run has found, also one that did not come to its end; called by its thread.

        Raises UserError if the outputs cannot be read.
        """
        collection = self._reopen()
        with self._lock:
            self._records.load(collection)
            self._collection, self._pictures = collection, Pictures(collection.store)
            if outcome == "finished":
                after = predicted(collection, self._state)
                self._add_result(after)
                self._changes = self._changed(before, after)
            self._refresh()

    def _changed(self, before: Prediction, after: Prediction) -> dict[str, Any]:
        """Return what a run changed, for the page."""
        if len(before.train) != len(after.train):
            note = f"{len(after.train):,} training images now, {len(before.train):,} before, so they are not compared."
            return {"after": None, "note": note}
        rows = changes(before.train, after.train, np.asarray(after.confidence))
        return {
            "before": before.source,
            "after": after.source,
            "of": len(after.train),
            "changed": sum(row["count"] for row in rows),
            "rows": rows,
            "note": None,
        }

    def _add_result(self, prediction: Prediction) -> None:
        result = accuracy(prediction, self._state)
        self._records.journal.append({"do": "result", **result})
        share = "not known" if result["accuracy"] is None else f"{result['accuracy']:.3f} of {result['count']}"
        info(f"label: {prediction.source}: accuracy on random held-out images {share}")

    def _see_tab(self, page: str) -> None:
        """Remember that a tab has asked, and forget those that have been closed."""
        now = time.monotonic()
        with self._tabs_lock:
            if page:
                self._tabs[page[:LONGEST_ID]] = now
            self._tabs = {tab: seen for tab, seen in self._tabs.items() if now - seen < TAB_SECONDS}

    def _run_part(self, why: str | None) -> dict[str, Any]:
        run = self._rerun.state()
        return {**run, "command": "dvc repro", "can": why is None and run["state"] != "running", "why": why}

    def _refresh(self) -> None:
        """Make the state anew that all tabs are given; requests for it then wait for no action."""
        collection, state, records = self._collection, self._state, self._records
        self._version += 1
        waiting = len(held_back(state))
        more = f"{counted(waiting, 'held-out label')} of classes without a training image not in {records.labels} yet"
        groups, classifier = collection.asker.groups, collection.asker.classifier
        content = {
            "title": title_of_project(collection.store.root),
            "images": {"train": state.train, "held_out": len(collection.files) - state.train},
            "side": collection.store.info.size,
            "model": str(groups.folder) if groups else None,
            "classifier": str(classifier.folder) if classifier else None,
            "kind": collection.kind,
            "groups": page_data.groups_part(collection, state),
            "aside": len(state.members(ASIDE)),
            "classes": page_data.classes_part(state),
            "answers": page_data.answers_part(state),
            "undo": page_data.described(records.done[-1], state.codes) if records.done else None,
            "results": [
                {key: value for key, value in entry.items() if key not in ("id", "do")}
                for entry in records.journal.entries
                if entry.get("do") == "result"
            ],
            "files": {"labels": str(records.labels), "clusters": str(records.clusters)},
            "notes": page_data.lines(records.notes, [more if waiting else None]),
            "problem": records.problem,
            "advice": advice(state),
        }
        self._snapshot: dict[str, Any] = {"version": self._version, "why": self._steps()[1], "state": content}

    def _whole(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        return {**snapshot["state"], **self._live(snapshot)}

    def _live(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """Return what may change without an action: how many tabs are open, and what a run does."""
        pages = max(len(self._tabs), 1)
        return {"version": snapshot["version"], "pages": pages, "run": self._run_part(snapshot["why"])}
