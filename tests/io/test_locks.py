import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sslpipe.io import locks
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_file, atomic_folder, files_together
from sslpipe.io.locks import lock

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from sslpipe.io.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes to tmp_path/out."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_output_that_another_process_writes_is_refused_and_a_killed_one_leaves_no_lock(tmp_path, holder):
    with pytest.raises(UserError) as raised, atomic_folder(tmp_path / "out"):
        pass
    assert str(raised.value) == f"{tmp_path / 'out'}: another sslpipe, process {holder.pid}, is writing it"
    with atomic_folder(tmp_path / "other"):
        pass
    assert names(tmp_path) == [".out.lock", ".out.partial", "other"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with atomic_folder(tmp_path / "out") as folder:
        assert names(folder) == []
        (folder / "whole").touch()
    assert names(tmp_path) == ["other", "out"]
    assert names(tmp_path / "out") == ["whole"]


def test_a_file_that_another_process_writes_is_refused(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as partial:
        partial.write_text("first")
        with pytest.raises(UserError, match="file: another sslpipe is writing it"), atomic_file(path):
            pass
    assert path.read_text() == "first"
    assert names(tmp_path) == ["file"]


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    taken = []
    flock = locks.fcntl.flock

    def delayed(descriptor, how):
        if not taken:
            (tmp_path / ".out.lock").unlink()  # by the process that held it
        taken.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(locks.fcntl, "flock", delayed)
    with lock(tmp_path / "out"):
        assert len(taken) == 2
        with pytest.raises(UserError, match=f"process {os.getpid()}, is writing it"), lock(tmp_path / "out"):
            pass
    assert names(tmp_path) == []


def test_file_systems_without_locks_have_none(tmp_path, monkeypatch):
    def refused(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refused)
    with lock(tmp_path / "out"), lock(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_outputs_that_a_killed_process_had_moved_away_come_back(tmp_path):
    (tmp_path / ".out.replaced").mkdir()
    (tmp_path / ".out.replaced" / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out"):
        _ = 1 / 0
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    told = "out: cannot be written: it is a file, expected a folder"
    with pytest.raises(UserError, match=told), atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "mine"


def test_files_that_belong_together_are_written_all_or_none(tmp_path):
    (tmp_path / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), files_together(tmp_path, {"new": "1", "old": "2"}):
        _ = 1 / (len((tmp_path / "old").read_text()) - len("2"))
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    with files_together(tmp_path, {"new": "1", "old": "2"}):
        pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"new": "1", "old": "2"}
