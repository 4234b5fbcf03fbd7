"""Two columns of a table, from the files that spreadsheets and data libraries write.

CSV is read by Python's csv module, JSON lines by its json module, Parquet by pyarrow, an optional dependency.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sslpipe.decoding.image_formats import FIRST_BYTES, check_plain, other_content
from sslpipe.io.errors import UserError, one_line
from sslpipe.io.text import shown

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Separators of columns; the one is used with which the header has both columns."""
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
"""Byte order mark → encoding."""
LONGEST = 80
"""Maximum number of characters of a text in an error (own choice)."""


@dataclass(frozen=True)
class Column:
    """A column to find in a table; case, blanks, "_" and "-" in its name make no difference."""

    name: str
    """Name in the documentation and in errors."""
    others: frozenset[str] = frozenset()
    """Other names, in lower case without blanks, "_" and "-"."""
    weak: frozenset[str] = frozenset()
    """Names that count only if the table has none of the above."""


@dataclass(frozen=True)
class Table:
    """The rows of a table, those without any text excluded."""

    rows: list[tuple[int, str, str | None]]
    """Number, and text of the first and of the second column; None for a missing value."""
    unit: str = "line"
    """What the numbers count, from 1: "line", where the row begins, or "row"."""
    form: str = ""
    """How the file was read, if it is not UTF-8 with commas and the documented columns."""


class MissingColumnError(UserError):
    """The table has not both columns."""


def read_table(
    path: Path, title: str, first: Column, second: Column, known: Callable[[str], bool] = lambda _: False
) -> Table:
    """Read two columns of a CSV, JSON lines or Parquet file.

    title: the beginning of errors, such as the path. known: whether a text is an expected one of the first column. It
    tells a first row without header, a row whose other fields were cut off, and bytes other than UTF-8 that are right.
    Raises OSError if the file cannot be read, and UserError, with the line, if its content is not such a table.
    """
    check_plain(path)
    data = path.read_bytes()
    if what := other_content(data[:FIRST_BYTES]):
        raise UserError(f"{title}: {what} found, expected CSV; save the table as CSV in UTF-8")
    reader = _Reader(title, first, second, known)
    suffix = path.suffix.lower()
    if data.startswith(b"PAR1") or suffix == ".parquet":
        return reader.parquet(data)
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    encoding = MARKS.get(mark, "utf-8")
    data = data.removeprefix(mark).removeprefix(mark)  # some programs write it twice
    try:
        text = data.decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        raise UserError(f"{title}: damaged, its byte order mark says {encoding.upper()}, but it is not") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{title} line {line}: NUL character found, expected text; save the table as CSV in UTF-8")
    is_json = suffix in (".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "[")
    parse = reader.json_lines if is_json else reader.csv
    try:
        table = parse(text)
        for line, key, value in table.rows:
            wrong = value if value and escaped(value) else key
            if escaped(wrong) and (wrong is value or not known(key)):
                raise UserError(f"{title} line {line}: {quoted(wrong)} found, expected UTF-8")
    except UserError:
        other = _windows_1252(text, data)
        if other is None:
            raise
        table = parse(other)
        example = next((cell for _, *cells in table.rows for cell in cells if cell and not cell.isascii()), "")
        doubt = f" (save it as UTF-8 if {quoted(example)} is wrong)" if example else ""
        return replace(table, form=_joined(table.form, f"read as Windows-1252, as it is not UTF-8{doubt}"))
    return replace(table, form=_joined(table.form, "" if encoding == "utf-8" else "read as UTF-16"))


def escaped(text: str) -> bool:
    """Return whether a text has surrogates, which stand for bytes that are not UTF-8."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def quoted(text: str) -> str:
    """Return a text for a message of one line: in quotes, and cut if it is very long."""
    return repr(text) if len(text) <= LONGEST else f"{text[:LONGEST]!r}..."


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _windows_1252(text: str, data: bytes) -> str | None:
    """Return the text in Windows-1252; None if it is UTF-8, or has some characters of UTF-8, or is neither."""
    if not escaped(text) or any(c > "\x7f" and not "\ud800" <= c <= "\udfff" for c in text):
        return None
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True)
class _Reader:
    """Reads two columns from a file's content; the fields are the arguments of `read_table`."""

    title: str
    first: Column
    second: Column
    known: Callable[[str], bool]

    def csv(self, text: str) -> Table:
        """Read CSV with the separator by which the header has most of the columns."""
        # The line sep=; is written by and for Excel.
        directive = re.match(r'"?sep=."?[;,\t]*(\r\n|\r|\n|$)', text, re.IGNORECASE)
        skipped, text = (1, text[directive.end() :]) if directive else (0, text)
        headers: dict[str, list[str]] = {}
        problems = []
        for separator in SEPARATORS:
            try:
                headers[separator] = next((fields for _, fields in self._records(text, separator, skipped)), [])
            except UserError as error:
                problems.append(error)
        if not headers:
            raise problems[0]
        both = self.first, self.second
        separator = max(headers, key=lambda s: (sum(bool(_places(headers[s], c)) for c in both), len(headers[s])))
        header = headers[separator]
        try:
            i, j = self._find_columns(header)
        except MissingColumnError:
            if not any(map(self.known, header)):
                raise
            expected = f"{self.first.name},{self.second.name}"
            raise UserError(f"{self.title}: no header found, expected {expected} in the first line") from None
        width = len(header)
        rows: list[tuple[int, str, str | None]] = []
        records = self._records(text, separator, skipped)
        next(records)
        for line, fields in records:
            where = f"{self.title} line {line}"
            key, value = (fields[place] if place < len(fields) else "" for place in (i, j))
            too_many = len(fields) > width and any(field.strip() for field in fields[width:])
            if too_many or (len(fields) <= max(i, j) and not self.known(key)):
                hint = f"; put a text with {SEPARATORS[separator]} in double quotes" if too_many else ""
                found = quoted(separator.join(fields))
                raise UserError(f"{where}: fields found: {len(fields)}, expected {width}: {found}{hint}")
            for more in separator.join(fields).splitlines()[1:]:
                other = more.split(separator)
                if len(other) > max(i, j) and self.known(other[i]):
                    row = quoted(other[i])
                    raise UserError(f"{where}: the row of {row} found in quotes; is a quote missing or too many?")
            if value[:1].isspace() and value.lstrip()[:1] == '"':
                raise UserError(f"{where}: blank before a quote found; remove it: {quoted(value)}")
            rows.append((line, key, value))
        separated = "" if separator == "," else f"separated by {SEPARATORS[separator]}"
        return Table(rows, form=_joined(self._columns_note(header[i], header[j]), separated))

    def json_lines(self, text: str) -> Table:
        """Read a JSON object in each line."""
        objects: list[tuple[int, dict[str, Any]]] = []
        for line, part in enumerate(io.StringIO(text, newline=None), start=1):
            if not part.strip():
                continue
            where = f"{self.title} line {line}"
            try:
                found = json.loads(part, object_pairs_hook=_distinct)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: not readable as JSON: {one_line(error)}") from None
            if not isinstance(found, dict):
                raise UserError(f"{where}: {quoted(part.strip())} found, expected a JSON object in each line")
            objects.append((line, found))
        names = list(dict.fromkeys(name for _, each in objects for name in each))
        i, j = self._find_columns(names)
        cells = ((line, each.get(names[i]), each.get(names[j])) for line, each in objects)
        return Table(self._texts(cells, "line"), form=self._columns_note(names[i], names[j]))

    def parquet(self, data: bytes) -> Table:
        """Read Parquet."""
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise UserError(f"{self.title}: pyarrow is not installed; pip install 'sslpipe[parquet]'") from None
        try:
            with parquet.ParquetFile(pyarrow.BufferReader(data), page_checksum_verification=True) as file:
                names = file.schema_arrow.names
                i, j = self._find_columns(names)
                content = file.read(columns=[names[i], names[j]])
                keys, values = (content.column(names[k]).to_pylist() for k in (i, j))
        except (pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
            raise UserError(f"{self.title}: not readable as Parquet: {one_line(error)}") from None
        cells = zip(range(1, len(keys) + 1), keys, values, strict=True)
        return Table(self._texts(cells, "row"), unit="row", form=self._columns_note(names[i], names[j]))

    def _records(self, text: str, separator: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
        """Yield the line where each row with any text begins, and the row's fields."""
        # newline="": csv must see the line ends in quotes unchanged. It takes \n, \r\n and \r as ends of rows.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header = True
        while True:
            line = reader.line_num + skipped + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                hint = "; is a quote missing or too many?" if '"' in text else ""
                raise UserError(f"{self.title} line {line}: not readable as CSV: {error}{hint}") from None
            if fields is None:
                return
            if any(fields) and any(field.strip() for field in fields):
                while header and not fields[-1].strip():  # empty columns that a spreadsheet writes at the end
                    fields.pop()
                header = False
                yield line, fields

    def _texts(self, cells: Iterator[tuple[int, Any, Any]], unit: str) -> list[tuple[int, str, str | None]]:
        """Return the rows with values as texts; raises UserError for lists and other values that are no text."""
        rows: list[tuple[int, str, str | None]] = []
        for number, *both in cells:
            texts: list[str | None] = []
            for column, cell in zip((self.first, self.second), both, strict=True):
                missing = cell is None or cell != cell  # a missing value of pandas is not equal to itself
                if not (missing or isinstance(cell, (str, int, float))):
                    found = "a list" if isinstance(cell, list) else type(cell).__name__
                    where = f"{self.title} {unit} {number}"
                    raise UserError(f"{where}: {found} found in {column.name}, expected a text")
                texts.append(None if missing else str(cell))
            if texts != [None, None]:
                rows.append((number, texts[0] or "", texts[1]))
        return rows

    def _find_columns(self, header: Sequence[str]) -> tuple[int, int]:
        """Return the places of both columns; raises UserError if one is missing or not clear."""
        both = _places(header, self.first), _places(header, self.second)
        for column, places in zip((self.first, self.second), both, strict=True):
            if len(places) > 1:
                names = " and ".join(quoted(header[place]) for place in places)
                raise UserError(
                    f"{self.title}: the columns {names} could each be the {column.name}; rename all but one"
                )
        if not all(both):
            found = ", ".join(shown(name[:LONGEST]) for name in header[:20]) or "none"
            expected = f"{self.first.name},{self.second.name}"
            raise MissingColumnError(f"{self.title}: columns {found} found, expected {expected}")
        return both[0][0], both[1][0]

    def _columns_note(self, key: str, value: str) -> str:
        """Return which columns were read, if they have not the documented names."""
        if (key, value) == (self.first.name, self.second.name):
            return ""
        return f"columns {quoted(key)} and {quoted(value)} read as {self.first.name} and {self.second.name}"


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _places(header: Sequence[str], column: Column) -> list[int]:
    """Return the places of a column in the header."""
    keys = [re.sub(r"[\s_-]", "", name).casefold() for name in header]
    found = [i for i, key in enumerate(keys) if key == column.name or key in column.others]
    return found or [i for i, key in enumerate(keys) if key in column.weak]
