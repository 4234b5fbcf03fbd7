"""`sslpipe` and `dvc` without the seconds that loading their modules takes: a process that has them forks for each.

The command line, its files, its exit code and what SIGINT, SIGTERM and SIGHUP do are those of the installed commands;
only the start is another.
"""

import json
import os
import pickle
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import textwrap
import time
import warnings
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

CLIENT = """\
    #!{python} -SE
    import json, os, signal, socket, sys
    def forward(number, _):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            pass
    with socket.socket(socket.AF_UNIX) as server:
        server.connect({address!r})
        request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(request)
        group = int.from_bytes(server.recv(4), "big")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if group and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, forward)
        code = server.recv(1)
    sys.exit(code[0] if code else 1)
"""


PYTHON = """\
    #!/bin/sh
    case "$*" in
        "-m dvc "*) shift 2; exec {folder}/dvc "$@";;
        "-m sslpipe.tools.child_process dvc "*) shift 3; exec {folder}/dvc "$@";;
    esac
    exec {python} "$@"
"""
"""`init` and `repeat` run DVC by their own Python, and look for sslpipe beside it."""


def start_commands(code: Path, folder: Path, until: int) -> Path:
    """Make a folder for PATH whose `sslpipe` and `dvc` run the packages in `code`, until a process has ended.

    Returns when their server listens; `until` is the number of the process. The folder is returned.
    """
    folder.mkdir()
    client = textwrap.dedent(CLIENT).format(python=sys.executable, address=str(folder / "socket"))
    python = textwrap.dedent(PYTHON).format(python=sys.executable, folder=folder)
    for name, text in {"sslpipe": client, "dvc": client, "python": python}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    command = [sys.executable, __file__, str(folder / "socket"), str(until)]
    with (folder / "log").open("w") as log:
        started = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(code)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
    assert started.returncode == 0, (folder / "log").read_text()
    return folder


@contextmanager
def warm_commands(code: Path, folder: Path):
    """`start_commands` for the time of a block."""
    start_commands(code, folder, until=os.getpid())
    try:
        yield folder
    finally:
        os.kill(int((folder / "server").read_text()), signal.SIGTERM)


LOADED_WHERE_USED = (
    "dvc.cli",
    "dvc.repo",
    "dvc.commands.repro",
    "timm",
    "faiss",
    "openTSNE",
    "onnx",
    "onnxscript",
    "sklearn.model_selection",
)
"""What is imported within functions. Not onnxruntime, which has a thread, and a fork would not."""


def load_modules() -> None:
    """Load all of sslpipe and what its commands import: 2 to 6 s of each command otherwise."""
    import sslpipe

    for module in pkgutil.walk_packages(sslpipe.__path__, "sslpipe."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in LOADED_WHERE_USED:
        with suppress(ImportError), warnings.catch_warnings(action="ignore"):
            import_module(name)


def parse_once() -> None:
    """Let DVC parse a text once: it reads params.yaml for each stage anew, by a parser in Python, most of its time."""
    from dvc.utils.serialize import _yaml

    parse, known = _yaml.parse_yaml, {}

    def parse_yaml(text, path, typ="safe"):
        if typ != "safe":
            return parse(text, path, typ)
        if text not in known:
            known[text] = pickle.dumps(parse(text, path))
        return pickle.loads(known[text])

    _yaml.parse_yaml = parse_yaml


def serve(address: Path, until: int) -> None:
    """Run commands in forks of a fork of this process, which ends once that one listens."""
    from stages.__main__ import app

    sys.executable = str(address.parent / "python")  # before modules that look beside it for programs
    load_modules()
    parse_once()

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        if number := os.fork():
            (address.parent / "server").write_text(str(number))
            os._exit(0)
        listening.settimeout(1)
        while True:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                os.kill(until, 0)  # ProcessLookupError ends this process
                continue
            if child := os.fork():
                connection.close()
                os.waitpid(child, 0)
                continue
            parent = os.getpid()
            if os.fork():  # a grandchild needs no wait
                os._exit(0)
            while os.getppid() == parent:  # a command that DVC runs ends when its parent does
                time.sleep(0.001)
            listening.close()
            os.setpgid(0, 0)  # the client forwards signals to the group
            connection.sendall(os.getpid().to_bytes(4, "big"))
            os._exit(answer(connection, app))


def answer(connection: socket.socket, app) -> int:
    """Run one command in this process, and send its exit code."""
    from dvc.cli import main

    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += connection.recv(1 << 16)
    (program, *arguments), folder, environment = json.loads(request)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [program, *arguments]
    code = 1
    try:
        if first := environment.get("WARM_FIRST"):  # a Python file that changes this process before the command
            runpy.run_path(first)
        code = main(arguments) if Path(program).name == "dvc" else app(arguments) or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code]))
    return code


if __name__ == "__main__":
    with suppress(ProcessLookupError):
        serve(Path(sys.argv[1]), int(sys.argv[2]))
