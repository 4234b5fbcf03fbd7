"""Journal and tables on the disk: nothing that was answered is lost, whatever ends the process or changes the files."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from sslpipe.io.errors import UserError
from sslpipe.labelling import records as records_module
from sslpipe.labelling.actions import Answer, Confirm, Merge, Move, Name, Rename, Split
from sslpipe.labelling.errors import RefusedError
from sslpipe.labelling.journal import Journal
from sslpipe.labelling.records import Records
from sslpipe.tools.ask_rows import Origin

FILES = tuple(f"{i}.png" for i in range(10))
HOME = np.array([0, 0, 0, 1, 1, 1, 2, 2])


def collection(key="a", origin=None, kind="groups"):
    fixed = {0: "cat", 1: "dog", 2: "cow"} if kind == "classes" else {}
    return SimpleNamespace(files=FILES, home=HOME, key=key, origin=origin or Origin(), kind=kind, fixed=fixed)


def opened(folder, **options):
    return Records(collection(**options), folder / "journal.jsonl", folder / "labels.csv", folder / "clusters.csv")


def labels(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return {row["file"]: row["label"] for row in csv.DictReader(file)}


def models(folder):
    with (folder / "clusters.csv").open(newline="") as file:
        return {row["model_sha256"] for row in csv.DictReader(file)}


def clusters(folder):
    with (folder / "clusters.csv").open(newline="") as file:
        return {row["cluster"]: row["class"] for row in csv.DictReader(file)}


def all_kinds(records):
    for number, action in enumerate(
        [Name(0, "cat"), Confirm((0, 1), 0), Name(1, "dog"), Split(1, (4,)), Move((6,), 0), Merge(2, 0)]
    ):
        records.do(action, f"{number}")
    records.do(Answer(3, "cow", reason="why"), "answer")
    records.do(Answer(9, "cow", reason="random, for an honest figure"), "random")
    records.do(Rename("cow", "ox"), "rename")


WRITTEN = {"0.png": "cat", "1.png": "cat", "6.png": "cat", "3.png": "ox", "9.png": "ox"}


def test_every_action_is_in_the_tables_at_once_and_still_there_after_a_restart(tmp_path):
    all_kinds(opened(tmp_path))
    for _ in range(2):
        assert labels(tmp_path) == WRITTEN
        assert clusters(tmp_path) == {"0": "cat", "1": "dog", "2": "cat"}
        assert models(tmp_path) == {"a"}
        again = opened(tmp_path)
        assert again.notes == []
    assert len(again.done) == 9


def test_undo_without_limit_also_after_a_restart(tmp_path):
    all_kinds(opened(tmp_path))
    again = opened(tmp_path)
    for number in range(9):
        again.undo(f"u{number}")
    assert again.state.labels() == {}
    assert labels(tmp_path) == {}
    with pytest.raises(RefusedError, match="nothing to undo"):
        again.undo("one more")
    again.do(Name(0, "x"), None)
    assert opened(tmp_path).state.groups == {0: "x", 1: "", 2: ""}


@pytest.mark.parametrize("lost", ["saved", "tables", "half a line"])
def test_what_a_killed_process_left_undone_is_done(tmp_path, lost):
    records = opened(tmp_path)
    records.do(Answer(0, "cat"), "first")
    before = {name: (tmp_path / name).read_bytes() for name in ("labels.csv",)}
    records.do(Answer(1, "dog"), "second")
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert b'"saved"' in lines[-1]
    journal.write_bytes(b"".join(lines[:-1]))
    if lost == "tables":
        (tmp_path / "labels.csv").write_bytes(before["labels.csv"])
    if lost == "half a line":
        journal.write_bytes(b"".join(lines) + b'{"id":"third","do":"ans')
    again = opened(tmp_path)
    assert labels(tmp_path) == {"0.png": "cat", "1.png": "dog"}
    assert again.notes == []
    assert [entry["id"] for entry in again.done] == ["first", "second"]
    again.do(Answer(2, "cat"), "third")
    assert set(labels(tmp_path)) == {"0.png", "1.png", "2.png"}


def test_an_answer_that_was_sent_twice_is_known(tmp_path):
    records = opened(tmp_path)
    records.do(Answer(0, "cat"), "first")
    assert records.journal.has("first")
    assert opened(tmp_path).journal.has("first")
    assert not records.journal.has("second")


@pytest.mark.parametrize("open_page", [True, False])
def test_labels_that_another_program_changes_are_taken_over_and_can_be_undone(tmp_path, open_page):
    records = opened(tmp_path)
    records.do(Answer(0, "cat"), None)
    records.do(Answer(1, "dog"), None)
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(text.replace("0.png,cat", "0.png,ox") + "5.png,cow,,,,\n")
    if not open_page:
        records = opened(tmp_path)
    records.do(Answer(2, "dog"), None)
    assert labels(tmp_path) == {"0.png": "ox", "1.png": "dog", "2.png": "dog", "5.png": "cow"}
    assert any("2 labels changed by another program" in note for note in records.notes)
    assert opened(tmp_path).state.labels() == {0: "ox", 1: "dog", 2: "dog", 5: "cow"}


def test_a_table_that_was_deleted_is_written_again(tmp_path):
    records = opened(tmp_path)
    records.do(Answer(0, "cat"), None)
    (tmp_path / "labels.csv").unlink()
    again = opened(tmp_path)
    assert labels(tmp_path) == {"0.png": "cat"}
    assert "gone" in again.notes[0]


def test_a_disk_that_does_not_take_the_journal_loses_the_action_and_says_so(tmp_path, monkeypatch):
    records = opened(tmp_path)
    records.do(Answer(0, "cat"), "first")

    def full(path, data, *, size):
        raise UserError(f"{path}: cannot be written: no space left on device")

    monkeypatch.setattr("sslpipe.labelling.journal.append_bytes", full)
    with pytest.raises(UserError, match="no space"):
        records.do(Answer(1, "dog"), "second")
    assert records.state.labels() == {0: "cat"}
    assert not records.journal.has("second")
    monkeypatch.undo()
    records.do(Answer(1, "dog"), "second")
    assert labels(tmp_path) == {"0.png": "cat", "1.png": "dog"}


@pytest.mark.parametrize("restart", [True, False])
def test_a_table_that_cannot_be_written_does_not_lose_the_answer(tmp_path, monkeypatch, restart):
    records = opened(tmp_path)

    def full(path, data):
        raise UserError(f"{path}: cannot be written: no space left on device")

    monkeypatch.setattr(records_module, "write_bytes", full)
    records.do(Answer(0, "cat"), "first")
    assert "no space" in records.problem
    assert not (tmp_path / "labels.csv").exists()
    monkeypatch.undo()
    if restart:
        records = opened(tmp_path)
        assert labels(tmp_path) == {"0.png": "cat"}
    records.do(Answer(1, "dog"), "second")
    assert records.problem is None
    assert labels(tmp_path) == {"0.png": "cat", "1.png": "dog"}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"journal.jsonl: cannot be written"):
        Records(collection(), tmp_path / "file" / "journal.jsonl", tmp_path / "labels.csv", tmp_path / "clusters.csv")


def test_groups_of_another_model_begin_without_names_and_all_labels_stay(tmp_path):
    records = opened(tmp_path)
    all_kinds(records)
    other = opened(tmp_path, key="b")
    assert labels(tmp_path) == WRITTEN
    assert other.state.groups == {0: "", 1: "", 2: ""}
    assert "another model" in other.notes[0]
    other.do(Name(1, "cat"), None)
    assert clusters(tmp_path) == {"1": "cat"}
    assert models(tmp_path) == {"b"}
    assert opened(tmp_path, key="b").state.groups[1] == "cat"


def test_names_of_clusters_that_the_page_did_not_write_are_not_overwritten(tmp_path):
    (tmp_path / "clusters.csv").write_text("cluster,class\n0,mine\n")
    with pytest.raises(UserError, match=r"clusters.csv: not as this page wrote it"):
        opened(tmp_path)
    (tmp_path / "clusters.csv").unlink()
    records = opened(tmp_path)
    records.do(Name(0, "cat"), None)
    (tmp_path / "clusters.csv").write_text("cluster,class\n0,mine\n")
    records.do(Name(0, "dog"), None)
    assert "move it away" in records.problem
    assert clusters(tmp_path) == {"0": "mine"}


def test_labels_of_the_source_are_in_the_table_too(tmp_path):
    records = opened(tmp_path, origin=Origin(label={"0.png": "cat", "test.png": "cow"}))
    records.do(Answer(0, "dog"), None)
    assert labels(tmp_path) == {"test.png": "cow", "0.png": "dog"}
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert {row["file"]: row["before"] for row in csv.DictReader(file)} == {"test.png": "", "0.png": "cat"}


def test_a_classifier_has_no_table_of_clusters(tmp_path):
    records = opened(tmp_path, kind="classes")
    records.do(Move((0,), 1), None)
    assert labels(tmp_path) == {"0.png": "dog"}
    assert not (tmp_path / "clusters.csv").exists()


@pytest.mark.parametrize("text", ["not json\n", '{"form": 7}\n', "[]\n"])
def test_a_journal_of_another_form_is_refused(tmp_path, text):
    (tmp_path / "journal.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"journal.jsonl line 1: .*move the file away"):
        Journal(tmp_path / "journal.jsonl")
