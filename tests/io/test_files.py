import errno
from pathlib import Path

import numpy as np
import pytest

from sslpipe.io.errors import UserError
from sslpipe.io.files import (
    atomic_folder,
    disk_errors,
    project_path,
    read_array,
    read_json,
    sha256,
    write_array,
    write_bytes,
    write_csv,
    write_json,
)


def test_a_folder_is_replaced_whole(tmp_path):
    out = tmp_path / "runs" / "stage"
    with atomic_folder(out) as folder:
        write_json(folder / "old.json", {"a": 1})
    with atomic_folder(out) as folder:
        write_json(folder / "new.json", {"b": 2})
        assert (out / "old.json").exists()
    assert [path.name for path in out.iterdir()] == ["new.json"]
    assert [path.name for path in out.parent.iterdir()] == ["stage"]


def test_after_an_error_the_folder_is_as_it_was(tmp_path):
    out = tmp_path / "stage"
    with atomic_folder(out) as folder:
        write_json(folder / "a.json", 1)
    with pytest.raises(TypeError), atomic_folder(out) as folder:
        write_json(folder / "a.json", object())
    assert read_json(out / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


def test_what_the_disk_refuses_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be written: No space left"), disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), atomic_folder(tmp_path / "file" / "out"):
        pass
    with pytest.raises(OSError, match="other"), disk_errors(tmp_path):
        raise OSError(errno.EAGAIN, "other")


def test_bytes_are_written_whole_or_not_at_all(tmp_path):
    write_bytes(tmp_path / "deep" / "file", b"one")
    with pytest.raises(TypeError):
        write_bytes(tmp_path / "deep" / "file", "no bytes")
    assert (tmp_path / "deep" / "file").read_bytes() == b"one"
    assert len(list((tmp_path / "deep").iterdir())) == 1


@pytest.mark.parametrize("mapped", [False, True])
def test_arrays_come_back_and_broken_ones_are_named(tmp_path, mapped):
    path = tmp_path / "runs" / "prepare" / "a.npy"
    with pytest.raises(UserError, match=r"a\.npy: no such file; run 'sslpipe prepare'"):
        read_array(path, mapped=mapped)
    path.parent.mkdir(parents=True)
    write_array(path, np.arange(1000))
    assert (read_array(path, mapped=mapped) == np.arange(1000)).all()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"a\.npy: not readable as an array"):
        read_array(path, mapped=mapped)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.npy: not readable as an array"):
        read_array(path, mapped=mapped)


def test_json_keeps_the_order_of_keys(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    write_json(tmp_path / "b.json", {"b": 1, "a": 2})
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]
    assert sha256(tmp_path / "a.json") == sha256(tmp_path / "b.json")
    (tmp_path / "a.json").write_text('{"a"')
    with pytest.raises(UserError, match="not readable as JSON"):
        read_json(tmp_path / "a.json")


def test_csv_has_all_columns(tmp_path):
    write_csv(tmp_path / "a.csv", [{"x": 1}, {"x": 2, "y": "b"}])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["x,y", "1,", "2,b"]


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("runs/semisup/fixmatch/model.json", "; run 'sslpipe semisup --method fixmatch' or 'dvc repro' first"),
        ("runs/self-label/model.json", "; run 'sslpipe self-label' or 'dvc repro' first"),
        ("runs/self-lable/model.json", ""),
        ("elsewhere/model.json", ""),
    ],
)
def test_what_is_missing_is_written_by_a_command_that_is_there(tmp_path, path, advice):
    with pytest.raises(UserError) as raised:
        read_json(tmp_path / path)
    assert str(raised.value) == f"{tmp_path / path}: no such file{advice}"


def test_paths_begin_in_the_project_in_dvcs_temporary_folders(tmp_path, monkeypatch):
    project, temporary = tmp_path / "project", tmp_path / "project" / ".dvc" / "tmp" / "exps" / "1"
    for folder in (temporary, tmp_path / "photos", project / "inside"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(temporary)
    assert project_path("../photos") == Path("../photos")
    monkeypatch.setenv("DVC_ROOT", str(project))
    assert project_path("../photos").samefile(tmp_path / "photos")
    assert project_path("inside").samefile(project / "inside")
    (temporary / "inside").mkdir()
    assert project_path("inside") == Path("inside")
    assert project_path("~/x") == Path.home() / "x"
    assert project_path("x" * 5000) == Path("x" * 5000)
