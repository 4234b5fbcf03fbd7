"""`sslpipe` and `dvc` without the seconds that loading their modules takes: a process that has them forks for each.

The command line, its files and its exit code are those of the installed commands; only the start is another.
"""

import json
import os
import pkgutil
import runpy
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
    import json, os, socket, sys
    with socket.socket(socket.AF_UNIX) as server:
        server.connect({address!r})
        request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(request)
        code = server.recv(1)
    sys.exit(code[0] if code else 1)
"""


@contextmanager
def warm_commands(code: Path, folder: Path):
    """A folder for PATH whose `sslpipe` and `dvc` run the packages in `code`; `folder` is where it is made."""
    folder.mkdir()
    address = str(folder / "socket")
    client = textwrap.dedent(CLIENT).format(python=sys.executable, address=address)
    programs = {
        "sslpipe": client,
        "dvc": client,
        "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',  # `repeat` looks for sslpipe beside its own Python
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(code)}
    with subprocess.Popen([sys.executable, __file__, address], env=environment, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield folder
        finally:  # the end of the block waits for the server
            server.terminate()


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


def serve(address: str) -> None:
    from stages.__main__ import app

    sys.executable = str(Path(address).parent / "python")  # before modules that look beside it for programs
    load_modules()

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            if os.fork():
                connection.close()
                continue
            parent = os.getpid()
            if os.fork():  # a grandchild needs no wait
                os._exit(0)
            while os.getppid() == parent:  # a command that DVC runs ends when its parent does
                time.sleep(0.001)
            listening.close()
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
    serve(sys.argv[1])
