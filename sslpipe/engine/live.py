"""Files of a run in progress, which have every row as soon as it comes, in a folder that is part of no output.

What differs between equal runs, such as times, is written here alone, so that equal runs write equal outputs.
"""

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from torch import Tensor

from sslpipe.engine.checkpoint import State
from sslpipe.io.console import info
from sslpipe.io.errors import UserError, one_line
from sslpipe.io.files import append_bytes, disk_errors, write_bytes

HISTORY, PACE = "history.csv", "pace.csv"
OF_LOGS = "events.out.tfevents.*"
"""Files of an earlier run's logs, which are deleted when a run begins or resumes: they may have rows beyond it."""
Row = dict[str, float]
Sheet = tuple[str, Tensor, int]
"""Name, images [M, C, H, W] in [0, 1], and number of steps done before them."""


class Log(Protocol):
    """Where else the rows go: the class `Log` of a module in sslpipe.engine.logs, which is built with the folder."""

    def row(self, row: Mapping[str, float]) -> None:
        """Add a row of history and pace; "step" is among its columns, unless the run has no steps."""

    def images(self, name: str, images: Tensor, step: int) -> None:
        """Add a sheet of images [M, C, H, W] in [0, 1], on any device."""

    def close(self) -> None:
        """Write what is not yet written."""


class RowsFile:
    """A CSV file with the bytes that `write_csv` would write of the rows so far, after every row.

    A row whose columns are known is appended with one write; otherwise, and if the file is not as it was left, all of
    it is replaced at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[Row] = []
        self._columns: list[str] = []
        self._size: int | None = None
        """Bytes of the file; None: it is not known to have all rows."""

    def replace(self, rows: Sequence[Row]) -> None:
        """Write the file with these rows, or delete it if there are none. Raises UserError if that fails."""
        self._rows, self._size = list(rows), None
        if self._rows:
            self._write()
            return
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)

    def add(self, row: Row) -> None:
        """Add a row. Raises UserError if it cannot be written; the next row then comes with those that are missing."""
        self._rows.append(row)
        size, self._size = self._size, None  # until the row is there, whatever goes wrong
        if size is not None and not row.keys() - set(self._columns):
            line = _csv([row], self._columns, header=False)
            with suppress(UserError):
                append_bytes(self.path, line, size=size)
                self._size = size + len(line)
                return
        self._write()

    def _write(self) -> None:
        self._size = None
        self._columns = list(dict.fromkeys(key for row in self._rows for key in row))
        content = _csv(self._rows, self._columns, header=True)
        write_bytes(self.path, content)
        self._size = len(content)


def _csv(rows: Sequence[Row], columns: Sequence[str], *, header: bool) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


class Live:
    """The live folder of a run: history.csv, pace.csv and the files of its logs; docs/watching.md lists the columns.

    A run is never ended by what goes wrong here: a line says so once, and a file that could not be written is tried
    again with the next row.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        logs: Mapping[str, Callable[[Path], Log]] | None = None,
        measure: Callable[[float, float], Mapping[str, float]] = lambda seconds, rate: {},
        sheets: Callable[[], Sequence[Sheet]] = lambda: (),
    ) -> None:
        """folder: None writes nothing. logs: name → class `Log`.

        measure: called at each row with the seconds of training in this process and the images per second; returns
        further columns of pace.csv. sheets: returns the images that are new since the last row, for the logs.
        """
        self.folder, self._classes, self._measure, self._sheets = folder, logs or {}, measure, sheets
        self._logs: dict[str, Log] = {}
        self._files = [RowsFile(folder / name) for name in (HISTORY, PACE)] if folder else []
        self._warned = False
        self._began = self._since = time.monotonic()
        self._step = 0

    def begin(self, state: State) -> None:
        """Bring the folder to the state of a run that begins or resumes: what a stopped run wrote beyond it goes."""
        if self.folder is None:
            return
        with self._going_on(), disk_errors(self.folder):
            for path in self.folder.glob(OF_LOGS):
                path.unlink()
        for file, rows in zip(self._files, (state.history, state.pace), strict=True):
            with self._going_on():
                file.replace(rows)
        for name, build in self._classes.items():
            with self._going_on(name):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._logs[name] = build(self.folder)
        for row in joined(state.history, state.pace):
            self._log(row)
        self._began = self._since = time.monotonic()
        self._step = state.step

    def row(self, state: State, *, images: int, gradient_norm: Tensor) -> None:
        """Write the last row of the state's history, and add one to its pace. images: number per step."""
        if self.folder is None:
            return
        now, row = time.monotonic(), state.history[-1]
        rate = (state.step - self._step) * images / max(now - self._since, 1e-9)
        pace = {
            **{name: row[name] for name in ("step", "epoch")},
            "seconds": round(state.seconds, 3),
            "images_per_second": round(rate, 1),
            "lr": row["lr"],
            "gradient_norm": gradient_norm.item(),
        }
        history, paces = self._files
        with self._going_on():
            history.add(row)
        pace |= self._measure(now - self._began, rate)
        state.pace.append(pace)
        with self._going_on():
            paces.add(pace)
        self._log({**pace, **row})
        # The next interval begins after what was measured.
        self._since, self._step = time.monotonic(), state.step

    def close(self) -> None:
        """Close the logs."""
        for name, log in list(self._logs.items()):
            with self._going_on(name):
                log.close()

    def _log(self, row: Row) -> None:
        sheets = self._sheets()
        for name, log in list(self._logs.items()):
            with self._going_on(name):
                log.row(row)
                for sheet in sheets:
                    log.images(*sheet)

    @contextmanager
    def _going_on(self, log: str = "") -> Iterator[None]:
        """Print an error of the disk instead of raising it, the first time. log: one that ends with its error."""
        try:
            yield
        except (UserError, OSError) as error:
            if log:
                with suppress(OSError, KeyError):
                    self._logs.pop(log).close()
                info(f"--log {log}: {one_line(error)}; the run goes on without it")
            elif not self._warned:
                info(f"{error}; the run goes on")
                self._warned = True


def joined(history: Sequence[Row], pace: Sequence[Row]) -> list[Row]:
    """Return the rows of the history with the columns that the row of the same step has in `pace`."""
    found = {row["step"]: row for row in pace}
    return [{**found.get(row.get("step", -1), {}), **row} for row in history]
