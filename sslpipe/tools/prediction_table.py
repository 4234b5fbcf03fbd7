"""Tables of predictions as CSV or Parquet, with the column file_name that Hugging Face's image folders have."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sslpipe.io.errors import UserError

FILE, ERROR = "file_name", "error"
"""First and last column."""
EARLIER = "file"
"""Name of the first column up to version 0.4.0."""
NUMBERS = ("confidence", "similarity")
"""Beginnings of the names of columns of numbers; the others are texts."""
CSV, PARQUET = ".csv", ".parquet"
ROWS = 10_000
"""Rows of a Parquet file that are written at a time (own choice: a few megabytes)."""
Write = Callable[[Mapping[str, Any]], None]
"""Writes a row; a column that it lacks is empty."""


def check_suffix(out: Path) -> None:
    """Raise UserError unless a file's suffix is that of a format whose library is installed."""
    if out.suffix.lower() not in (CSV, PARQUET):
        raise UserError(f"--out: {out} found, expected a name that ends in {CSV} or {PARQUET}")
    if out.suffix.lower() == PARQUET:
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(f"--out: {out}: pyarrow is not installed; pip install 'sslpipe[parquet]'") from None


def is_predictions(path: Path) -> bool:
    """Return whether a file is a table of predictions."""
    names: Sequence[str] = []
    try:
        if path.suffix.lower() == PARQUET:
            from pyarrow import parquet

            names = parquet.read_schema(path).names
        else:
            with path.open(newline="", encoding="utf-8") as file:
                names = next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error):  # pyarrow's errors, and those of the encoding, are ValueErrors
        return False
    return len(names) > 1 and names[0] in (FILE, EARLIER) and names[-1] == ERROR


def file_name(image: str, out: Path) -> str:
    r"""Return the path of an image in the table `out`: relative to the table's folder if it lies below, else as given.

    So is file_name in metadata.csv and metadata.parquet of Hugging Face's image folders. Bytes that are not UTF-8
    become \udcNN.
    """
    folder, path = Path(os.path.abspath(out)).parent, Path(os.path.abspath(image))
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else image
    return _text(name)


@contextmanager
def table_writer(path: Path, columns: Sequence[str], *, form: str) -> Iterator[Write]:
    """Yield a function that writes rows to a new file; form: CSV or PARQUET.

    Numbers have four decimals in CSV, and are float32 in Parquet. An empty cell is an empty text in CSV, and null in
    Parquet.
    """
    with _parquet(path, columns) if form.lower() == PARQUET else _csv(path, columns) as write:
        yield write


@contextmanager
def _csv(path: Path, columns: Sequence[str]) -> Iterator[Write]:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        yield lambda row: writer.writerow({key: f"{v:.4f}" if isinstance(v, float) else v for key, v in row.items()})


@contextmanager
def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    kinds = [pyarrow.float32() if name.startswith(NUMBERS) else pyarrow.string() for name in columns]
    schema = pyarrow.schema([pyarrow.field(name, kind) for name, kind in zip(columns, kinds, strict=True)])
    rows: list[Mapping[str, Any]] = []

    def flush() -> None:
        writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
        rows.clear()

    def write(row: Mapping[str, Any]) -> None:
        rows.append({key: _text(value) if isinstance(value, str) else value for key, value in row.items()})
        if len(rows) == ROWS:
            flush()

    # A Python file, whose errors, such as for a full disk, have a number.
    with path.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
        yield write
        flush()


def _text(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def read_rows(table: Path) -> list[dict[str, Any]]:
    """Return prediction, confidence and error of each row of a table with predictions."""
    columns = ["prediction", "confidence", ERROR]
    if table.suffix.lower() == PARQUET:
        from pyarrow import parquet

        found: list[dict[str, Any]] = parquet.read_table(table, columns=columns).to_pylist()
        return found
    with table.open(newline="", encoding="utf-8") as file:
        return [{name: row[name] for name in columns} for row in csv.DictReader(file)]
