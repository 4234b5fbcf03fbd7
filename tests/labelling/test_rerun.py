"""Commands that run as children, with small modules in the place of dvc."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sslpipe.io.errors import UserError
from sslpipe.labelling import rerun
from sslpipe.labelling.errors import RefusedError
from sslpipe.labelling.rerun import Rerun

ROOT = Path(__file__).parents[2]
SLOW = """
import os, pathlib, signal, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "deaf" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path("pid").write_text(str(os.getpid()))
print("started", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("saved", flush=True)
    sys.exit(130)
"""
BAR = """
import sys
for i in range(3):
    print(f"\\033[1mscan\\033[0m: {i}/3 images")
print("error", file=sys.stderr)
"""
SERVER = """
import sys, time
from pathlib import Path
from sslpipe.labelling.rerun import Rerun
Rerun(Path(sys.argv[1])).start([("slow",)], print)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "say.py").write_text("import sys\nprint(*sys.argv[1:])\nsys.exit(int('fail' in sys.argv))\n")
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "bar.py").write_text(BAR)
    return tmp_path


@pytest.fixture
def made(folder):
    found = Rerun(folder)
    yield found
    if found.state()["state"] == "running":
        found.stop()
        assert found.wait(30)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(made, folder):
    until(lambda: "started" in made.state()["lines"])
    return int((folder / "pid").read_text())


def test_commands_run_one_after_the_other(made):
    assert made.state() == {"state": "idle", "lines": [], "seconds": 0, "command": ""}
    done = []
    made.start([("say", "one two"), ("bar",)], done.append)
    assert made.state()["state"] == "running"
    assert made.state()["command"] == "say 'one two'"
    assert made.wait(20)
    state = made.state()
    assert (state["state"], state["command"], done) == ("finished", "bar", ["finished"])
    assert state["lines"] == ["$ say 'one two'", "one two", "$ bar", "scan: 2/3 images", "error"]
    assert 0 < state["seconds"] == made.state()["seconds"]
    made.start([("say", "again")], done.append)
    assert made.wait(20)
    assert made.state()["lines"] == ["$ say again", "again"]
    assert done == ["finished"] * 2


@pytest.mark.parametrize("first", [("say", "fail"), ("not_there",)])
def test_a_command_that_fails_ends_the_list(made, first):
    done = []
    made.start([first, ("say", "never")], done.append)
    assert made.wait(20)
    assert (made.state()["state"], done) == ("failed", ["failed"])
    assert made.state()["lines"][-1] == f"{' '.join(first)}: failed with exit code 1"
    assert "never" not in made.state()["lines"]


def test_a_folder_that_is_gone_is_a_failure(tmp_path):
    gone, done = Rerun(tmp_path / "gone"), []
    gone.start([("say", "hello")], done.append)
    assert gone.wait(20)
    assert done == ["failed"]
    assert "cannot be started: No such file or directory" in gone.state()["lines"][-1]


def test_an_error_of_the_caller_is_shown(made):
    def broken(outcome):
        raise UserError("runs/semisup: cannot be read")

    made.start([("say", "hello")], broken)
    assert made.wait(20)
    assert made.state()["state"] == "failed"
    assert made.state()["lines"][-1] == "error: runs/semisup: cannot be read"


def test_only_one_run_at_a_time_and_a_stop_lets_it_save(made, folder):
    with pytest.raises(RefusedError, match="nothing is running"):
        made.stop()
    done = []
    made.start([("slow",), ("say", "never")], done.append)
    number = started(made, folder)
    with pytest.raises(RefusedError, match="slow is running"):
        made.start([("say", "hello")], done.append)
    assert not made.wait(0.01)
    made.stop()
    made.stop()
    assert made.wait(8)
    assert (made.state()["state"], done) == ("stopped", ["stopped"])
    assert made.state()["lines"] == ["$ slow", "started", "saved"]
    assert not psutil.pid_exists(number)


@pytest.mark.parametrize("argument", ["deaf", "stubborn"])
def test_a_command_that_does_not_end_is_ended(made, folder, argument, monkeypatch):
    times = ((0.0, signal.SIGINT), (0.3, signal.SIGTERM), (0.6, signal.SIGKILL))
    monkeypatch.setattr(rerun, "SIGNALS", times)
    made.start([("slow", argument)], lambda outcome: None)
    number = started(made, folder)
    began = time.monotonic()
    made.stop()
    assert made.wait(10)
    assert (time.monotonic() - began >= 0.6) == (argument == "stubborn")
    assert made.state()["state"] == "stopped"
    assert not psutil.pid_exists(number)


def test_a_stop_before_the_first_command(made):
    done = []
    made.start([("slow",)], done.append)
    made.stop()
    assert made.wait(8)
    assert done == ["stopped"]


def test_commands_end_with_the_server(folder):
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], cwd=ROOT)
    until((folder / "pid").exists)
    until(lambda: (folder / "pid").read_text())
    child = psutil.Process(int((folder / "pid").read_text()))
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_dvc_repro_runs_the_stages(made, folder):
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n")
    (folder / "dvc.yaml").write_text("stages:\n  hello:\n    cmd: echo hello > out\n    outs: [out]\n")
    made.start([("dvc", "repro")], lambda outcome: None)
    assert made.wait(60)
    assert made.state()["state"] == "finished", made.state()["lines"]
    assert (folder / "out").read_text() == "hello\n"
    assert "> echo hello > out" in made.state()["lines"]
