"""The labelling page's address, and `sslpipe label` from its start to its end by a signal."""

import _thread
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_session import Served
from stored import write_store

from sslpipe.io.errors import UserError
from sslpipe.labelling import serving
from sslpipe.labelling.address import FILE, FOLDER, check_writable, claimed

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions and locks are POSIX's")
START = """
import sys, time, types
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
import sslpipe.labelling
from fake_session import PAGE, FakeSession

class Session(FakeSession):
    @classmethod
    def open(cls, params, seed, folders, *, labels, clusters, journal, device):
        print("opened", params, folders.model, labels, clusters, folders.prepared, journal, flush=True)
        return cls()

    def last_line(self):
        if any(action["do"] == "wait" for action in self.done):
            time.sleep(60)  # as one that waits for the action
        return super().last_line()

for name, content in {{
    "session": {{"Session": Session}},
    "page_files": {{"page": lambda title: PAGE.replace("fake", title), "assets": dict}},
}}.items():
    module = types.ModuleType(f"sslpipe.labelling.{{name}}")
    vars(module).update(content)
    sys.modules[module.__name__] = module
    setattr(sslpipe.labelling, name, module)

"""
COLD = """
from stages.__main__ import app
app(["label", *sys.argv[1:]])
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("SSH_CONNECTION", "CI"):
        monkeypatch.delenv(name, raising=False)
    Path("params.yaml").write_text("seed: 0\n")
    write_store(Path("runs/prepare"), {"train": np.zeros((2, 3, 8, 8), np.uint8)}, fingerprint="a" * 64)
    Path("first.py").write_text(START.format(root=str(ROOT), tests=str(Path(__file__).parent)))
    Path("start.py").write_text(Path("first.py").read_text() + COLD)
    return tmp_path


class Process(subprocess.Popen):
    """A process of Popen, or what has started it; signals go to that which serves."""

    def __init__(self, command, **variables):
        environment = {**os.environ, **variables}
        super().__init__(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def send_signal(self, number):
        os.kill(int(Path(".sslpipe/.label.lock").read_text()), number)


@pytest.fixture
def warm(project, warm_bin):
    """`sslpipe label` with a fake session; the process needs no time to start."""
    return lambda *arguments: started(
        str(warm_bin / "sslpipe"), "label", *arguments, WARM_FIRST=str(project / "first.py")
    )


def cold(*arguments):
    """`sslpipe label` with a fake session, as a user starts it."""
    return started(sys.executable, "start.py", *arguments)


@contextmanager
def started(*command, **variables):
    """Yield the process of `sslpipe label` with a fake session, what it serves, and its first lines."""
    with Process(command, **variables) as process:
        try:
            lines = []
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", "".join(lines))):
                lines.append(process.stdout.readline())
                assert lines[-1], process.stderr.read()
            lines.append(process.stdout.readline())
            served = Served(None, int(found[1]))
            served.token = found[2]
            yield process, served, lines
        finally:
            if process.poll() is None:
                process.kill()


def ended(process, number):
    """Exit code, the rest of what a process prints, and the seconds that it takes to end after a signal."""
    began = time.monotonic()
    process.send_signal(number)
    out, error = process.communicate(timeout=10)
    return process.returncode, out, error, time.monotonic() - began


def run(*arguments, warm_bin=None):
    """Error of a command that does not start to serve; warm_bin: folder of the command that needs no time to start."""
    command = [str(warm_bin / "sslpipe"), "label"] if warm_bin else [sys.executable, "start.py"]
    variables = {**os.environ, "WARM_FIRST": str(Path("first.py").absolute())}
    done = subprocess.run(
        [*command, *arguments], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


def address():
    return json.loads((FOLDER / FILE).read_text())


def test_the_command_serves_until_ctrl_c_and_the_next_start_has_the_same_address(project, warm):
    with cold("runs/other", "--labels", "my.csv") as (process, server, lines):
        assert (
            lines[-3] == "opened params.yaml runs/other my.csv clusters.csv runs/prepare .sslpipe/label/journal.jsonl\n"
        )
        assert lines[-1] == "every answer is on disk at once; Ctrl-C ends the page\n"
        assert f"<title>{project.name}</title>" in server.ask("/", token=server.token)[2].decode()
        assert server.post({"do": "x"}, token=server.token)[0] == 200
        first = address()
        code, out, error, seconds = ended(process, signal.SIGINT)
    assert (code, out, error) == (130, "1 answers in labels.csv\n", "stopped by SIGINT\n")
    assert seconds < 10
    assert first == {"port": server.port, "token": server.token, "images": "a" * 64}
    assert not list(FOLDER.parent.glob(".*"))
    with warm() as (process, server, lines):
        assert lines[-3] == "opened params.yaml None None clusters.csv runs/prepare .sslpipe/label/journal.jsonl\n"
        assert address() == first
        assert server.ask("/", token=first["token"])[0] == 200
        code, _, error, _ = ended(process, signal.SIGTERM)
    assert (code, error) == (143, "stopped by SIGTERM\n")


def test_the_server_is_reached_from_this_machine_alone(project, warm):
    with warm() as (process, server, _):
        wanted = f":{server.port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
        assert {row[1] for row in rows if row[1].endswith(wanted) and row[3] == "0A"} == {f"0100007F{wanted}"}
        ended(process, signal.SIGHUP)
    assert process.returncode == 129


def test_a_signal_does_not_wait_for_an_action_or_for_open_connections(project, warm):
    with warm() as (process, server, _):
        waiting = threading.Thread(target=_ignored, args=(server.post, {"do": "wait"}), kwargs={"token": server.token})
        waiting.start()
        with socket.create_connection(("127.0.0.1", server.port)) as half:
            half.sendall(f"GET /{server.token}/ HTTP/1.1\r\nHost: ".encode())
            time.sleep(0.3)
            code, out, error, seconds = ended(process, signal.SIGINT)
        waiting.join()
    assert (code, error) == (130, "stopped by SIGINT\n")
    assert out.startswith("ended during an action")
    assert seconds < 10  # the action takes twice as long


def _ignored(call, *arguments, **named):
    with suppress(OSError):
        call(*arguments, **named)


@POSIX
def test_a_second_start_names_the_address_of_the_first(project, warm, warm_bin):
    with warm() as (process, server, _):
        url = f"http://127.0.0.1:{server.port}/{server.token}/"
        line = f"error: another 'sslpipe label' serves this project at {url}; end that one first"
        assert run(warm_bin=warm_bin) == line
        assert server.ask("/", token=server.token)[0] == 200
        (FOLDER / FILE).unlink()
        with pytest.raises(UserError, match=r"^another 'sslpipe label' serves this project already; end that one"):
            claimed(0, "i").__enter__()
        process.kill()
    with warm() as (_, server, _):  # a killed one leaves no lock
        assert server.ask("/", token=server.token)[0] == 200


def test_without_the_extra_a_line_says_what_to_install(project):
    text = Path("start.py").read_text()
    for name in ("starlette", "uvicorn"):
        without = f"import sys; sys.modules[{name!r}] = None\n"
        Path("start.py").write_text(without + text.split("from pathlib")[0] + text[text.index("from stages") :])
        assert run() == f"error: label: {name} is not installed; pip install 'sslpipe[label]'"


def test_what_cannot_be_written_is_one_line_before_a_page_is_served(project, warm_bin):
    Path(".sslpipe").write_text("a file")
    assert re.fullmatch(r"error: \.sslpipe.*: cannot be written: .*", run(warm_bin=warm_bin))
    Path(".sslpipe").unlink()
    Path("file").write_text("")
    assert re.fullmatch(
        r"error: file/c\.csv: cannot be written: .*", run("--clusters", "file/c.csv", warm_bin=warm_bin)
    )
    assert not Path(".sslpipe").exists()


def test_tables_are_checked_and_neither_they_nor_their_folders_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_writable(Path("new/folder/labels.csv"), Path("labels.csv"))
    assert not list(tmp_path.iterdir())
    Path("file").write_text("")
    with pytest.raises(UserError, match=r"^file/l\.csv: cannot be written: Not a directory$"):
        check_writable(Path("labels.csv"), Path("file/l.csv"))


def test_a_port_that_is_taken_is_another_one_with_a_new_token_or_an_error(project, capsys):
    with claimed(0, "i") as (first, _):
        pass
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first.port))
        other.listen()
        capsys.readouterr()
        with claimed(0, "i") as (second, listening):
            assert second.port == listening.getsockname()[1] != first.port
            assert second.token != first.token
        assert f"port {first.port} of last time: Address already in use; the page has a new" in capsys.readouterr().out
        with pytest.raises(UserError, match=rf"^--port: {first.port} cannot be had: Address already in use$"):
            claimed(first.port, "i").__enter__()
        assert address()["port"] == second.port
    with claimed(first.port, "i") as (third, _):
        assert (third.port, third.token) == (first.port, second.token)
    assert capsys.readouterr().out == ""


@POSIX
def test_the_token_is_readable_for_its_owner_alone(project, capsys):
    before = os.umask(0)
    try:
        with claimed(0, "i") as (first, _):
            pass
    finally:
        os.umask(before)
    assert len(first.token) == 43
    assert stat.S_IMODE((FOLDER / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(FOLDER.stat().st_mode) == 0o700
    with claimed(0, "i") as (second, _):
        assert second == first
    (FOLDER / FILE).chmod(0o644)
    FOLDER.chmod(0o755)
    with claimed(0, "i") as (third, _):
        assert third.token != first.token
    assert "can be read by other users; the page has a new address" in capsys.readouterr().out
    assert stat.S_IMODE((FOLDER / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(FOLDER.stat().st_mode) == 0o700


def test_other_images_and_files_that_are_not_readable_have_a_new_address(project, capsys):
    tokens = set()
    with claimed(0, "i") as (found, _):
        tokens.add(found.token)
    with claimed(0, "other images") as (found, _):
        tokens.add(found.token)
    assert "address.json: is that of other images; the page has a new address" in capsys.readouterr().out
    good = (FOLDER / FILE).read_text()
    for content in (
        "",
        "[]",
        "{",
        "{}",
        good.replace(found.token, ""),
        good.replace(found.token, "short"),
        good.replace(found.token, "../" + found.token),
        good.replace(f'"{found.token}"', "7"),
        good.replace(str(found.port), '"80"'),
        good.replace(str(found.port), "70000"),
        good.replace(str(found.port), "true"),
    ):
        (FOLDER / FILE).write_text(content)
        with claimed(0, "other images") as (new, _):
            assert new.token not in tokens
            tokens.add(new.token)
        assert "address.json: is not readable; the page has a new address" in capsys.readouterr().out
    assert len(tokens) == 13


class Failing:
    """A server that fails once it is to end, or at once."""

    def __init__(self, *, at_once):
        self.should_exit = at_once

    def run(self, sockets):
        while not self.should_exit:
            time.sleep(0.01)
        raise OSError("closed")


def test_a_server_that_fails_while_it_ends_says_nothing(capfd):
    threading.Timer(0.3, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        serving._serve_until_interrupted(Failing(at_once=False), None)
    assert capfd.readouterr() == ("", "")


def test_a_server_that_ends_by_itself_is_a_defect():
    with pytest.raises(RuntimeError, match="has ended") as raised:
        serving._serve_until_interrupted(Failing(at_once=True), None)
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("terminal", "variables", "expected"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (True, {"BROWSER": "firefox"}, True),
        (False, {"DISPLAY": ":0"}, False),
        (True, {"DISPLAY": ":0", "SSH_CONNECTION": "x"}, False),
        (True, {"DISPLAY": ":0", "CI": "true"}, False),
        (True, {}, False),
    ],
)
def test_a_browser_is_opened_where_it_is_seen(monkeypatch, terminal, variables, expected):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    for name in ("SSH_CONNECTION", "CI", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert serving.shown_here() is expected


def test_the_browser_opens_the_address_if_it_is_asked_for(project, warm):
    script = Path("browser.sh")
    script.write_text("#!/bin/sh\necho $1 > opened\n")
    script.chmod(0o755)
    environment = os.environ.get("BROWSER")
    os.environ["BROWSER"] = str(script.absolute())
    try:
        with warm("--browser") as (process, server, _):
            for _ in range(100):
                if Path("opened").exists() and Path("opened").read_text().endswith("\n"):
                    break
                time.sleep(0.05)
            assert Path("opened").read_text() == f"http://127.0.0.1:{server.port}/{server.token}/\n"
            ended(process, signal.SIGINT)
    finally:
        os.environ.pop("BROWSER")
        if environment is not None:
            os.environ["BROWSER"] = environment
