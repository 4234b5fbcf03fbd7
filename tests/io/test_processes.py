"""A command in several processes: their environment, signals, failures, and that nothing is left."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from sslpipe.io import processes
from sslpipe.io.process_ends import RESUMES
from sslpipe.io.processes import run_processes

ROOT = Path(__file__).parents[2]
MARK = "SSLPIPE_TEST_OF_PROCESSES"
START = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from sslpipe.io.interrupts import listening, stoppable
rank, folder = int(os.environ["RANK"]), Path(os.environ["SSLPIPE_TEST_OF_PROCESSES"])
def ready():
    (folder / f"{rank}.partial").write_text(str(os.getpid()))
    (folder / f"{rank}.partial").rename(folder / f"{rank}.pid")
def other():
    while not (folder / f"{1 - rank}.pid").exists(): time.sleep(0.01)
    return int((folder / f"{1 - rank}.pid").read_text())
def steps():
    signals = []
    with stoppable():
        with listening() as interrupts:
            ready()
            other()
            while not interrupts.received: time.sleep(0.01)
            time.sleep(0.5)  # the checkpoint
        (folder / f"{rank}.saved").touch()
        raise KeyboardInterrupt
"""
SUPERVISOR = """
import json, sys
from sslpipe.io.interrupts import stoppable
from sslpipe.io import processes
processes.GRACE, processes.TERM_SECONDS = 0.5, 0.3
with stoppable():
    sys.exit(processes.run_processes(json.loads(sys.argv[1]), 2))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for the children, whose name finds them and all that they start; nothing may be left of them."""
    monkeypatch.setattr(processes, "GRACE", 0.5)
    monkeypatch.setattr(processes, "TERM_SECONDS", 0.3)
    monkeypatch.setattr(processes, "REST_SECONDS", 0.3)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv(MARK, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("OMP_NUM_THREADS", "DVC_STAGE", "SSLPIPE_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    time.sleep(0.1)  # a killed one is there for a moment
    left = living(tmp_path)
    for process in left:
        process.kill()
    assert not left
    assert not list((tmp_path / "tmp").iterdir()) or (tmp_path / "parent_was_killed").exists()


def living(folder):
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def child(code):
    return [sys.executable, "-c", START + code]


def supervisor(code):
    return subprocess.Popen(supervised(code), stderr=subprocess.PIPE, text=True)


def supervised(code):
    return [sys.executable, "-c", SUPERVISOR, json.dumps(child(code))]


def wait_for(*paths):
    began = time.monotonic()
    while not all(path.exists() for path in paths):
        assert time.monotonic() - began < 30, paths
        time.sleep(0.01)


def test_every_process_has_its_rank_and_one_place_to_meet(folder, capfd):
    code = """
with Path(os.environ["SSLPIPE_MEETING"]).open("a") as meeting: meeting.write("x")
shown = {name: os.environ[name] for name in (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "SSLPIPE_MEETING", "MORE", "SSLPIPE_PARENT")}
shown["group"] = os.getpgrp() == os.getpid()
(folder / f"{rank}.json").write_text(json.dumps(shown))
print("out", rank)
print("err", rank, file=sys.stderr)
if rank == 0:  # others may end before
    time.sleep(0.5)
"""
    assert run_processes(child(code), 3, environment={"MORE": "yes"}) == 0
    assert capfd.readouterr() == ("out 0\n", "err 0\n")
    shown = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)]
    assert [each["RANK"] for each in shown] == [each["LOCAL_RANK"] for each in shown] == ["0", "1", "2"]
    cores = max(1, len(os.sched_getaffinity(0)) // 3) if hasattr(os, "sched_getaffinity") else None
    for each in shown:
        assert (each["WORLD_SIZE"], each["MORE"], each["SSLPIPE_PARENT"]) == ("3", "yes", str(os.getpid()))
        assert each["OMP_NUM_THREADS"] == str(cores or each["OMP_NUM_THREADS"])
        assert each["SSLPIPE_MEETING"] == shown[0]["SSLPIPE_MEETING"]
        assert each["group"]
    assert not Path(shown[0]["SSLPIPE_MEETING"]).parent.exists()


@pytest.mark.parametrize("given", [True, False])
def test_threads_that_are_set_are_kept(folder, monkeypatch, given):
    if not given:
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = "sys.exit(os.environ['OMP_NUM_THREADS'] != '7')"
    assert run_processes(child(code), 2, environment={"OMP_NUM_THREADS": "7"} if given else {}) == 0


def test_the_parent_loads_no_torch():
    code = "import sys, sslpipe.io.processes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_command_that_is_not_there_is_an_error(folder):
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        run_processes([str(folder / "no-such-program")], 2)


@pytest.mark.parametrize("shown", [False, True])
def test_an_exception_of_one_ends_the_other_and_is_one_line(folder, capfd, monkeypatch, shown):
    if shown:
        monkeypatch.setenv("SSLPIPE_TRACEBACK", "1")
    code = """
if rank: raise ValueError("boom")
time.sleep(60)
"""
    began = time.monotonic()
    assert run_processes(child(code), 2) == 1
    assert time.monotonic() - began < 20
    *before, line = capfd.readouterr().err.splitlines()
    assert line == "process 1 of 2: ValueError: boom"
    assert (before[:1] == ["Traceback (most recent call last):"]) if shown else not before


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_one_is_named(folder, capfd, rank):
    code = f"""
ready()
if rank == {rank}: os.kill(os.getpid(), signal.SIGKILL)
other()
sys.exit(75)
"""
    assert run_processes(child(code), 2) == 137
    expected = f"process {rank} of 2 was killed (SIGKILL); all others were ended, {RESUMES}\n"
    assert capfd.readouterr().err == expected


def test_a_killed_one_comes_before_an_error_at_about_the_same_time(folder, capfd, monkeypatch):
    monkeypatch.setattr(processes, "POLL_SECONDS", 1.0)
    code = """
ready()
if rank: os.kill(os.getpid(), signal.SIGKILL)
other()
time.sleep(0.1)
sys.exit(1)
"""
    assert run_processes(child(code), 2) == 137
    assert capfd.readouterr().err.startswith("process 1 of 2 was killed (SIGKILL)")


def test_a_stopped_one_is_named_and_killed(folder, capfd):
    code = """
ready()
if rank: os.kill(os.getpid(), signal.SIGSTOP)
other()
time.sleep(0.5)
sys.exit(75)
"""
    assert run_processes(child(code), 2) == 1
    assert capfd.readouterr().err == f"process 1 of 2 did not answer; all others were ended, {RESUMES}\n"


def test_an_error_of_the_user_in_all_is_one_line(folder, capfd):
    code = """
if rank == 0: time.sleep(0.3)
print("error: x", file=sys.stderr)
sys.exit(2)
"""
    assert run_processes(child(code), 3) == 2
    assert capfd.readouterr().err == "error: x\n"


def test_an_error_of_the_user_in_one_names_it(folder, capfd):
    code = """
if rank == 0: time.sleep(60)
print("error: x", file=sys.stderr)
sys.exit(2)
"""
    assert run_processes(child(code), 2) == 2
    assert capfd.readouterr().err == "error: process 1 of 2: x\n"


@pytest.mark.parametrize("exit_code", [0, 3])
def test_what_a_process_started_ends_with_it(folder, exit_code):
    code = f"""
if rank: subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(60)"])
sys.exit({exit_code})
"""
    assert run_processes(child(code), 2) == exit_code


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_forwarded_once_and_there_is_time_to_save(folder, name):
    number = getattr(signal, name)
    with supervisor("steps()") as parent:
        wait_for(folder / "0.pid", folder / "1.pid")
        parent.send_signal(number)
        assert parent.wait() == 128 + number
        assert parent.stderr.read() == f"stopped by {name}\n"
    # A signal that came twice would have ended them before.
    assert (folder / "0.saved").exists()
    assert (folder / "1.saved").exists()


@pytest.mark.parametrize(("name", "times"), [("SIGINT", 2), ("SIGTERM", 1), ("SIGHUP", 1)])
def test_a_second_ctrl_c_is_forwarded_and_no_other_second_signal(folder, name, times):
    code = f"""
def note(number, frame):
    with (folder / f"{{rank}}.noted").open("a") as file: file.write("x")
signal.signal(signal.{name}, note)
ready()
while not (folder / "end").exists(): time.sleep(0.01)
"""
    with supervisor(code) as parent:
        wait_for(folder / "0.pid", folder / "1.pid")
        for _ in range(2):
            parent.send_signal(getattr(signal, name))
            wait_for(folder / "0.noted", folder / "1.noted")
            time.sleep(0.2)
        (folder / "end").touch()
        assert parent.wait() == 0
    assert [(folder / f"{rank}.noted").read_text() for rank in (0, 1)] == ["x" * times] * 2


def test_a_signal_to_every_process_counts_once(folder):
    with supervisor("steps()") as parent:
        wait_for(folder / "0.pid", folder / "1.pid")
        for process in living(folder):
            process.terminate()
        assert parent.wait() == 143
        assert parent.stderr.read() == "stopped by SIGTERM\n"
    assert (folder / "0.saved").exists()
    assert (folder / "1.saved").exists()


def test_one_that_has_saved_waits_for_one_that_saves(folder):
    code = """
signal.signal(signal.SIGTERM, lambda number, frame: (time.sleep(0 if rank else 2), sys.exit(143)))
ready()
time.sleep(60)
"""
    with supervisor(code) as parent:
        wait_for(folder / "0.pid", folder / "1.pid")
        parent.terminate()
        assert parent.wait() == 143
        assert parent.stderr.read() == ""


def test_the_second_ctrl_c_ends_at_once_what_does_not_answer(folder):
    code = """
signal.signal(signal.SIGINT, signal.SIG_IGN if rank else lambda number, frame: sys.exit(130))
ready()
other()
time.sleep(60)
"""
    began = time.monotonic()
    with supervisor(code) as parent:
        wait_for(folder / "0.pid", folder / "1.pid")
        parent.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert parent.poll() is None
        parent.send_signal(signal.SIGINT)
        assert parent.wait() == 130
        assert parent.stderr.read() == f"process 1 of 2 did not answer; all others were ended, {RESUMES}\n"
    assert time.monotonic() - began < 30


def test_ctrl_c_in_a_terminal_reaches_each_once(folder):
    terminal, inner = os.openpty()
    mode = termios.tcgetattr(inner)
    mode[3] |= termios.TOSTOP  # which stops processes in the background that write
    termios.tcsetattr(inner, termios.TCSANOW, mode)
    code = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", code, *supervised("print('training', sys.stdout.isatty()); steps()")]
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True) as parent:
        os.close(inner)
        wait_for(folder / "0.pid", folder / "1.pid")
        os.write(terminal, b"\x03")
        shown = b""
        with suppress(OSError):  # the end of a terminal on Linux
            while data := os.read(terminal, 1024):
                shown += data
        assert parent.wait() == 130
    os.close(terminal)
    assert shown.decode().splitlines() == ["training True", "^Cstopped by SIGINT"]
    assert (folder / "0.saved").exists()
    assert (folder / "1.saved").exists()


def test_the_end_of_dvc_is_forwarded_as_one_signal(folder):
    code = "import json, subprocess, sys; subprocess.run(json.loads(sys.argv[1]))"
    command = [sys.executable, "-c", code, json.dumps(supervised("steps()"))]
    with subprocess.Popen(command, env={**os.environ, "DVC_STAGE": "x"}, stderr=subprocess.PIPE, text=True) as dvc:
        wait_for(folder / "0.pid", folder / "1.pid")
        dvc.kill()
        assert dvc.stderr.read() == "stopped by SIGTERM\n"  # the pipe ends with the last process
    assert (folder / "0.saved").exists()
    assert (folder / "1.saved").exists()


@pytest.mark.parametrize("early", [False, True])
def test_a_killed_parent_ends_all(folder, early):
    code = f"""
ready()
time.sleep({int(early)})  # loading libraries
with stoppable():
    (folder / f"{{rank}}.in").touch()
    time.sleep(60)
"""
    (folder / "parent_was_killed").touch()
    with supervisor(code) as parent:
        wait_for(*(folder / f"{rank}.{'pid' if early else 'in'}" for rank in (0, 1)))
        parent.kill()
        time.sleep(2 + early)
        assert not living(folder)
        assert parent.stderr.read() == "stopped by SIGTERM\n"  # of process 0


def test_torch_meets_at_the_file_and_names_the_rank_that_failed(folder, capfd):
    code = """
import torch
import torch.distributed as dist
dist.init_process_group("gloo", init_method=f"file://{os.environ['SSLPIPE_MEETING']}", rank=rank, world_size=2)
total = torch.ones(1)
dist.all_reduce(total)
if rank: raise ValueError(f"sum {total.item():.0f}")
try: dist.all_reduce(total)
except RuntimeError: sys.exit(75)
"""
    code = run_processes(child(code), 2)
    line = capfd.readouterr().err.splitlines()[-1]
    # Rarely torch aborts at the end of a process that has not left its group, after the traceback.
    assert code in (1, 128 + signal.SIGABRT), line
    assert line.startswith("process 1 of 2")
    assert "ValueError: sum 2" in line
