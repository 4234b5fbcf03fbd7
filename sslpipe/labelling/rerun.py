"""Runs commands such as `dvc repro` one after the other, as children of the server, which end with it."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import join
from typing import Any, Literal

from sslpipe.io.errors import UserError
from sslpipe.io.own_programs import with_own_programs
from sslpipe.labelling.errors import RefusedError
from sslpipe.labelling.output import Output

Command = tuple[str, ...]
"""A program of the environment that is a module, `sslpipe` or `dvc`, and its arguments."""
State = Literal["idle", "running", "finished", "failed", "stopped"]
SIGNALS = ((0.0, signal.SIGINT), (10.0, signal.SIGTERM), (20.0, signal.SIGKILL))
"""Seconds after `stop`, and the signal that is sent then: SIGINT lets a stage save what it has reached."""
LEFT_OPEN = 5.0
"""Seconds after a command's end in which what it started may print."""


class Rerun:
    """Runs one list of commands at a time in the folder of a project; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._state: State = "idle"
        self._output, self._command = Output(), ""
        self._began = self._ended = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def state(self) -> dict[str, Any]:
        """Return the state, the last lines of output, the seconds that it takes or took, and the last command."""
        with self._lock:
            until = time.monotonic() if self._state == "running" else self._ended
            return {
                "state": self._state,
                "lines": self._output.lines,
                "seconds": round(until - self._began, 1),
                "command": self._command,
            }

    def start(self, commands: Sequence[Command], when_done: Callable[[State], None]) -> None:
        """Start commands, each a module of the environment, such as dvc, and its arguments; a failure ends the list.

        when_done: called at the end, in another thread, with the state that then follows: "finished", "failed" or
        "stopped". If it raises an error, the state is "failed", and the error is the last line.
        Raises RefusedError if commands run already.
        """
        with self._lock:
            if self._state == "running":
                raise RefusedError(f"{self._command} is running; stop it first, or wait for its end")
            self._state, self._output, self._command = "running", Output(), join(commands[0]) if commands else ""
            self._began, self._stop = time.monotonic(), threading.Event()
            self._thread = threading.Thread(target=self._run, args=(tuple(commands), when_done), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let the command end as by Ctrl-C, and by SIGTERM and SIGKILL if it does not; returns at once.

        Raises RefusedError if none is running.
        """
        with self._lock:
            if self._state != "running":
                raise RefusedError("nothing is running that could be stopped")
            if self._stop.is_set():
                return
            self._stop.set()
            assert self._thread is not None
            threading.Thread(target=self._send_signals, args=(self._thread,), daemon=True).start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end of the commands, at most some seconds; returns whether none is running."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def _run(self, commands: Sequence[Command], when_done: Callable[[State], None]) -> None:
        outcome: State = "finished"
        for command in commands:
            if self._call(command) != 0:
                outcome = "stopped" if self._stop.is_set() else "failed"
                break
        try:
            when_done(outcome)
        except Exception as error:
            outcome = "failed"
            if not isinstance(error, UserError):
                traceback.print_exc()
            self._line(f"error: {error}" if str(error) else f"error: {type(error).__name__}")
        with self._lock:
            self._state, self._ended = outcome, time.monotonic()

    def _call(self, command: Command) -> int | None:
        """Run a command and return its exit code; None if it could not be started."""
        with self._lock:
            if self._stop.is_set():
                return None
            self._command = join(command)
            self._output.end_line(f"$ {self._command}")
            try:
                # Its own process group, so that a stage receives each signal once.
                self._process = process = subprocess.Popen(
                    [sys.executable, "-m", "sslpipe.tools.child_process", *command],
                    cwd=self._folder,
                    env={**with_own_programs(os.environ), "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            except OSError as error:
                self._output.end_line(f"error: {self._command} cannot be started: {error.strerror}")
                return None
        reader = threading.Thread(target=self._read, args=(process, self._output), daemon=True)
        reader.start()
        code = process.wait()
        # A stage may go on for a moment after DVC, while it saves; it holds the pipe open until then.
        while reader.is_alive() and self._stop.is_set() and _group_lives(process):
            reader.join(0.1)
        reader.join(LEFT_OPEN)
        with self._lock:
            self._process = None
        if code and not self._stop.is_set():
            self._line(f"{join(command)}: failed with exit code {code}")
        return code

    def _read(self, process: "subprocess.Popen[bytes]", output: Output) -> None:
        assert process.stdout is not None
        with process.stdout as pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                with self._lock:
                    output.add(data)

    def _line(self, text: str) -> None:
        with self._lock:
            self._output.end_line(text)

    def _send_signals(self, thread: threading.Thread) -> None:
        """Send the signals of SIGNALS to the command's process group, until the commands have ended."""
        began = time.monotonic()
        for after, number in SIGNALS:
            thread.join(max(began + after - time.monotonic(), 0))
            with self._lock:
                process = self._process
            if not thread.is_alive():
                return
            if process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)


def _group_lives(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether a process of the command's group exists."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
