"""Starts a command several times on one machine, and ends all its processes when one of them fails.

Does not import torch: the process that supervises the others stays small.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen

from sslpipe.io.interrupts import PARENT, collected
from sslpipe.io.own_process import available_cores
from sslpipe.io.process_ends import End, Outcome

GRACE = 5.0
"""Seconds in which processes may end by themselves after one has failed, before SIGTERM (own choice: whether
a broken connection ends them at once, or they wait for the failed one for minutes, depends on the backend)."""
TERM_SECONDS = 2.0
"""Seconds between SIGTERM and SIGKILL (own choice: for deleting partial outputs)."""
REST_SECONDS = 2.0
"""Seconds in which processes that an ended process has started may end, before SIGKILL (own choice: such as
multiprocessing's resource tracker, which deletes what is left in shared memory)."""
POLL_SECONDS = 0.05
"""Seconds between two looks at the processes."""
MEETING = "SSLPIPE_MEETING"
"""Environment variable with a file that does not exist yet, where the processes meet: torch's `init_method` file://."""
TRACEBACK = "SSLPIPE_TRACEBACK"
"""Environment variable that shows all that the failed process wrote to stderr, such as a traceback, before the line."""


def run_processes(command: Sequence[str], count: int, *, environment: Mapping[str, str] = {}) -> int:
    """Run `command` in `count` processes until all have ended, and return the exit code for all of them.

    Process r has RANK and LOCAL_RANK r, WORLD_SIZE `count`, SSLPIPE_MEETING (a path for torch's file:// that does not
    exist yet), OMP_NUM_THREADS (an equal part of the cores, unless it is set), SSLPIPE_PARENT (with which `stoppable`
    ends it when this process ends), and the variables of `environment`. Process 0 has this process's stdin, stdout and
    stderr; of the others only the cause of a failure is printed.

    SIGINT, SIGTERM and SIGHUP are forwarded, each once, SIGINT every time; the processes then have any time to save
    their work. When one fails, or after a second SIGINT, the others have GRACE seconds to end, and are then ended by
    SIGTERM and SIGKILL. No process is left.

    The exit code is 0 if all have ended with 0, that of process 0 after a signal that was forwarded, and else that of
    the cause: the first process that failed, except with LOST (128 + the number of a signal that killed it), or one
    that did not answer (1). One line on stderr names the cause, unless it is an error that process 0 has printed.

    Call it in the main thread, which receives the signals. Raises OSError if the command cannot be started.
    """
    shared = {"OMP_NUM_THREADS": str(max(1, available_cores() // count)), **os.environ, PARENT: str(os.getpid())}
    with (
        tempfile.TemporaryDirectory(prefix="sslpipe-", ignore_cleanup_errors=True) as name,
        collected() as signals,
        ExitStack() as stack,
    ):
        folder = Path(name)
        shared |= {"WORLD_SIZE": str(count), MEETING: str(folder / "meeting"), **environment}

        def start(rank: int) -> _Child:
            child = _Child(command, rank, shared, folder)
            stack.callback(child.kill)  # if another one cannot be started
            return child

        with _terminal_stops_no_child():
            children = [start(rank) for rank in range(count)]
        ends = _wait(children, signals)
        stderr = [child.stderr() for child in children]
        outcome = Outcome.of(ends, signals, stderr)
    if children[0].process.returncode < 0 and sys.stdout.isatty():
        print("\x1b[?25h", flush=True)  # its progress bar has hidden the cursor
    if outcome.line:
        if shared.get(TRACEBACK) and len(stderr[outcome.cause].splitlines()) > 1:
            print(stderr[outcome.cause].rstrip(), file=sys.stderr)
        print(outcome.line, file=sys.stderr, flush=True)
    return outcome.code


@contextmanager
def _terminal_stops_no_child() -> Iterator[None]:
    """Let processes started in the block ignore SIGTTIN and SIGTTOU.

    To the terminal process 0 is in the background: with `stty tostop` its first line would stop it.
    """
    numbers = [getattr(signal, name) for name in ("SIGTTIN", "SIGTTOU") if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """One of the processes, leader of its own process group, so that a terminal's Ctrl-C does not reach it."""

    def __init__(self, command: Sequence[str], rank: int, shared: Mapping[str, str], folder: Path) -> None:
        self.rank = rank
        self.told = self.killed = False
        self.group_is_gone = os.name != "posix"
        self._ended: float | None = None
        self._stderr = folder / f"{rank}.stderr"
        variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        if rank:
            with self._stderr.open("wb") as file:
                self.process = Popen(
                    command, env=variables, process_group=0, stdin=DEVNULL, stdout=DEVNULL, stderr=file
                )
        else:
            self.process = Popen(command, env=variables, process_group=0)

    def has_ended(self) -> bool:
        """Return whether the process has ended; what it started has REST_SECONDS from then on."""
        if self.process.poll() is None:
            return False
        self._ended = self._ended or time.monotonic()
        if not self.group_is_gone:
            self._send_to_group(signal.SIGKILL if time.monotonic() - self._ended >= REST_SECONDS else 0)
        return True

    def end(self) -> End:
        """Return how the process ended."""
        return End(rank=self.rank, code=self.process.returncode, told=self.told, killed=self.killed)

    def forward(self, number: int) -> None:
        """Send a signal that this process has received. On Windows a console's Ctrl-C reaches every process."""
        if os.name == "posix" or number != signal.SIGINT:
            self.process.send_signal(number if os.name == "posix" else signal.SIGTERM)

    def tell(self) -> None:
        """Send SIGTERM, once."""
        if not self.told:
            self.process.terminate()
        self.told = True

    def kill(self) -> None:
        """End the process, and what it started, by SIGKILL, and wait for it."""
        running = self.process.poll() is None
        if not self.group_is_gone:
            self._send_to_group(signal.SIGKILL)
        if running:
            self.killed = True
            self.process.kill()
            self.process.wait()

    def _send_to_group(self, number: int) -> None:
        """Send a signal to the process group; 0 only asks whether it exists. SIGKILL is the last one."""
        try:
            os.killpg(self.process.pid, number)
            self.group_is_gone = number != 0
        except (ProcessLookupError, PermissionError):  # the latter on macOS, of processes that have ended
            self.group_is_gone = True

    def stderr(self) -> str:
        """Return what the process wrote to stderr; "" for process 0, whose stderr is that of the command."""
        return self._stderr.read_text(encoding="utf-8", errors="replace") if self.rank else ""


def _wait(children: Sequence[_Child], signals: Sequence[int]) -> list[End]:
    """Return the ends of all processes in their order, once none is left in their groups.

    signals: grows while signals are received, which are forwarded here.
    """
    ends: list[End] = []
    forwarded, failed = 0, None
    while len(ends) < len(children) or not all(child.group_is_gone for child in children):
        time.sleep(POLL_SECONDS)
        for number in signals[forwarded:]:
            if number == signal.SIGINT or number not in signals[:forwarded]:
                for child in children:
                    child.forward(number)
            forwarded += 1
        known = {end.rank for end in ends}
        new = [child.end() for child in children if child.has_ended() and child.rank not in known]
        # Of those that ended at about the same time a killed one comes first: the others have noticed it.
        ends += sorted(new, key=lambda end: end.code >= 0)
        if failed is None and (any(end.is_failure(signals) for end in new) or signals.count(signal.SIGINT) > 1):
            failed = time.monotonic()
        if failed is not None and time.monotonic() - failed >= GRACE:
            for child in children:
                if not child.has_ended():
                    child.tell()
                    if time.monotonic() - failed >= GRACE + TERM_SECONDS:
                        child.kill()
    return ends
