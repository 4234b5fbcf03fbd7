"""Writes the history of a finished run to a log such as TensorBoard."""

from pathlib import Path

from sslpipe.engine.live import HISTORY, OF_LOGS, PACE, Row, joined
from sslpipe.io.errors import UserError
from sslpipe.io.files import disk_errors
from sslpipe.nets.model_card import read_card
from sslpipe.nets.model_paths import CARD
from sslpipe.reporting.training import read_history
from sslpipe.running.watching import find_logs, live_folder


def write_log(path: Path, name: str) -> tuple[Path, int]:
    """Write every row of a run's history to a log; return the log's folder and the number of rows.

    path: folder of a model, or a live folder. name: a module of sslpipe.engine.logs. The log lies in the live folder,
    in place of an earlier one, since outputs are not to be changed; it also has the columns of pace.csv if the live
    folder is that of this run. Raises UserError for an unknown name, and for a folder without a history.
    """
    log = find_logs([name], where="--to")[name]
    path = path if path.name not in ("", "..") else path.resolve()
    folder = live_folder(path, read_card(path / CARD)[1].stage) if (path / CARD).exists() else path
    if not (path / HISTORY).exists():
        raise UserError(f"{path}: no {HISTORY} found, expected the folder of a trained model or one below runs/live")
    live, pace = folder / HISTORY, folder / PACE
    same = pace.exists() and live.exists() and live.read_bytes() == (path / HISTORY).read_bytes()
    rows = joined(_rows(path / HISTORY), _rows(pace) if same else [])
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob(OF_LOGS):
            earlier.unlink()
        writer = log(folder)
        for row in rows:
            writer.row(row)
        writer.close()
    return folder, len(rows)


def _rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file, without empty cells and values that are not finite."""
    columns, rows = read_history(path)
    return [{name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows]
