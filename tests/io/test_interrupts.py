import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sslpipe.io.interrupts import handled_by, listening, stoppable

ROOT = Path(__file__).parents[2]
CHILD = """
import os, sys, time
from sslpipe.io.interrupts import stoppable
print(os.getpid(), flush=True)
with stoppable():
    time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
command = [sys.executable, "-c", {CHILD!r}]
if "shell" in sys.argv:  # one that stays, as dash does
    command = ["/bin/sh", "-c", 'trap "" USR1; "$@"; exit 0', "sh", *command]
child = subprocess.Popen(command, env={{**os.environ, "DVC_STAGE": "x"}} if "dvc" in sys.argv else None)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_ends_a_command_with_one_line(capsys, name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, stoppable():
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert capsys.readouterr() == ("", f"stopped by {name}\n")
    assert signal.getsignal(number) == before


def test_errors_without_a_signal_pass():
    with pytest.raises(ZeroDivisionError), stoppable():
        _ = 1 / 0
    with pytest.raises(SystemExit) as ended, stoppable():
        sys.exit(2)
    assert ended.value.code == 2


def test_a_step_is_finished_first_and_the_second_signal_is_at_once():
    with listening() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.received
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_closed_terminal_is_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled_by(signal.default_int_handler):
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("how", [("dvc",), ("dvc", "shell"), ()], ids=str)
def test_a_stage_ends_with_the_dvc_that_runs_it(how):
    if "shell" in how and sys.platform != "linux":
        pytest.skip("only /proc shows DVC behind a shell")
    environment = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PARENT, *how]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.terminate()
        if not how:
            time.sleep(1.5)
            os.kill(child, signal.SIGINT)
        # The pipe ends with the child.
        assert parent.stderr.read() == f"stopped by {'SIGTERM' if how else 'SIGINT'}\n"


def test_ctrl_c_while_the_libraries_load_is_no_traceback():
    code = """
import signal, sys
class Interrupted:
    def find_spec(name, path=None, target=None):
        if name == "typer": signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupted)
from sslpipe.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout + ended.stderr) == (-signal.SIGINT, "")
