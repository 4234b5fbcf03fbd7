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

from sslpipe.decoding.image_formats import check_plain
from sslpipe.io.errors import UserError, one_line
from sslpipe.preparation.image_files import shown

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Separators of columns; the one is used with which the header has both columns."""
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte order mark → encoding; UTF-32 comes first, because its mark begins with that of UTF-16."""
OTHER_FORMATS = {
    b"PK\3\4": "a workbook or a ZIP file",
    b"\xd0\xcf\x11\xe0": "a workbook",
    b"\x1f\x8b": "a compressed file",
    b"%PDF": "a PDF file",
}
"""First bytes of files that are given in place of a table → what they are."""
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
    for magic, what in OTHER_FORMATS.items():
        if data.startswith(magic):
            raise UserError(f"{title}: {what} found, expected CSV; save the table as CSV in UTF-8")
    if data.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return _parquet(data, title, first, second)
    parse = _json_lines if path.suffix.lower() in (".jsonl", ".ndjson") else _csv
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
    try:
        table = parse(text, title, first, second, known)
        for line, key, value in table.rows:
            wrong = value if value and escaped(value) else key
            if escaped(wrong) and (wrong is value or not known(key)):
                raise UserError(f"{title} line {line}: {quoted(wrong)} found, expected UTF-8")
    except UserError:
        other = _windows_1252(text, data)
        if other is None:
            raise
        table = parse(other, title, first, second, known)
        return replace(table, form="; ".join(filter(None, [table.form, "read as Windows-1252, as it is not UTF-8"])))
    if encoding == "utf-8":
        return table
    return replace(table, form="; ".join(filter(None, [table.form, f"read as {encoding[:6].upper()}"])))


def escaped(text: str) -> bool:
    """Return whether a text has surrogates, which stand for bytes that are not UTF-8."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def quoted(text: str) -> str:
    """Return a text for a message of one line: in quotes, and cut if it is very long."""
    return repr(text) if len(text) <= LONGEST else f"{text[:LONGEST]!r}..."


def _windows_1252(text: str, data: bytes) -> str | None:
    """Return the text in Windows-1252; None if it is UTF-8, or has some characters of UTF-8, or is neither."""
    if not escaped(text) or any(c > "\x7f" and not "\ud800" <= c <= "\udfff" for c in text):
        return None
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return None


def _csv(text: str, title: str, first: Column, second: Column, known: Callable[[str], bool]) -> Table:
    directive = re.match(r'"?sep=(.)"?[;,\t]*(\r\n|\r|\n|$)', text, re.IGNORECASE)  # written by and for Excel
    skipped = 1 if directive else 0
    text = text[directive.end() :] if directive else text
    best: tuple[int, int, str, list[str]] | None = None
    problem = ""
    for separator in directive[1] if directive else SEPARATORS:
        try:
            header = next((fields for _, fields in _records(text, title, separator, skipped)), [])
        except (UserError, TypeError, ValueError) as error:  # csv refuses some separators that sep= may name
            problem = problem or str(error)
            continue
        score = sum(bool(_places(header, column)) for column in (first, second)), len(header)
        if best is None or score > best[:2]:
            best = (*score, separator, header)
    if best is None:
        raise UserError(problem if problem.startswith(title) else f"{title} line 1: {problem}")
    *_, separator, header = best
    i, j = _find_columns(header, title, first, second, known)
    width = len(header)
    rows: list[tuple[int, str, str | None]] = []
    records = _records(text, title, separator, skipped)
    next(records)
    for line, fields in records:
        if len(fields) > width and any(field.strip() for field in fields[width:]):
            raise UserError(
                f"{title} line {line}: fields found: {len(fields)}, expected {width}: "
                f"{quoted(separator.join(fields))}; put a text with {_name(separator)} in double quotes"
            )
        key = fields[i] if i < len(fields) else ""
        if len(fields) <= max(i, j) and not known(key):
            raise UserError(
                f"{title} line {line}: fields found: {len(fields)}, expected {width}: {quoted(separator.join(fields))}"
            )
        value = fields[j] if j < len(fields) else ""
        if value[:1].isspace() and value.lstrip()[:1] == '"':
            raise UserError(f"{title} line {line}: blank before a quote found; remove it: {quoted(value)}")
        rows.append((line, key, value))
    form = _columns_note(header[i], header[j], first, second)
    if separator != ",":
        form = "; ".join(filter(None, [form, f"separated by {_name(separator)}"]))
    return Table(rows, form=form)


def _name(separator: str) -> str:
    return SEPARATORS.get(separator, repr(separator))


def _records(text: str, title: str, separator: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
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
            raise UserError(f"{title} line {line}: not readable as CSV: {error}{hint}") from None
        if fields is None:
            return
        if any(fields) and any(field.strip() for field in fields):
            while header and not fields[-1].strip():  # empty columns that a spreadsheet writes at the end
                fields.pop()
            header = False
            yield line, fields


def _json_lines(text: str, title: str, first: Column, second: Column, known: Callable[[str], bool]) -> Table:
    objects: list[tuple[int, dict[str, Any]]] = []
    for line, part in enumerate(io.StringIO(text, newline=None), start=1):
        if not part.strip():
            continue
        try:
            found = json.loads(part, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{title} line {line}: not readable as JSON: {one_line(error)}") from None
        if not isinstance(found, dict):
            raise UserError(f"{title} line {line}: {quoted(part.strip())} found, expected a JSON object in each line")
        objects.append((line, found))
    names = list(dict.fromkeys(name for _, each in objects for name in each))
    i, j = _find_columns(names, title, first, second)
    cells = ((line, each.get(names[i]), each.get(names[j])) for line, each in objects)
    return Table(_texts(cells, f"{title} line", first, second), form=_columns_note(names[i], names[j], first, second))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _parquet(data: bytes, title: str, first: Column, second: Column) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{title}: pyarrow is not installed; pip install 'sslpipe[parquet]'") from None
    try:
        with parquet.ParquetFile(pyarrow.BufferReader(data), page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            i, j = _find_columns(names, title, first, second)
            content = file.read(columns=[names[i], names[j]])
            keys, values = (content.column(names[k]).to_pylist() for k in (i, j))
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        raise UserError(f"{title}: not readable as Parquet: {one_line(error)}") from None
    cells = zip(range(1, len(keys) + 1), keys, values, strict=True)
    form = _columns_note(names[i], names[j], first, second)
    return Table(_texts(cells, f"{title} row", first, second), unit="row", form=form)


def _texts(
    cells: Iterator[tuple[int, Any, Any]], title: str, first: Column, second: Column
) -> list[tuple[int, str, str | None]]:
    """Return the rows with values as texts; raises UserError for lists and other values that are no text."""
    rows: list[tuple[int, str, str | None]] = []
    for number, key, value in cells:
        texts: list[str | None] = []
        for column, cell in ((first, key), (second, value)):
            if isinstance(cell, list):
                raise UserError(f"{title} {number}: a list found in {column.name}, expected one {column.name}")
            if cell is None or cell != cell:  # a missing value of pandas is not equal to itself
                texts.append(None)
            elif isinstance(cell, (str, int, float)):
                texts.append(str(cell))
            else:
                raise UserError(f"{title} {number}: {type(cell).__name__} found in {column.name}, expected a text")
        if texts[0] is not None or texts[1] is not None:
            rows.append((number, texts[0] or "", texts[1]))
    return rows


def _places(header: Sequence[str], column: Column) -> list[int]:
    """Return the places of a column in the header."""
    keys = [re.sub(r"[\s_-]", "", name).casefold() for name in header]
    found = [i for i, key in enumerate(keys) if key == column.name or key in column.others]
    return found or [i for i, key in enumerate(keys) if key in column.weak]


def _find_columns(
    header: Sequence[str], title: str, first: Column, second: Column, known: Callable[[str], bool] = lambda _: False
) -> tuple[int, int]:
    """Return the places of both columns; raises UserError if one is missing or not clear."""
    both = _places(header, first), _places(header, second)
    expected = f"{first.name},{second.name}"
    for column, places in zip((first, second), both, strict=True):
        if len(places) > 1:
            names = " and ".join(quoted(header[place]) for place in places)
            raise UserError(f"{title}: the columns {names} could each be the {column.name}; rename all but one")
    if not all(both):
        if any(known(field) for field in header):
            raise UserError(f"{title}: no header found, expected {expected} in the first line")
        found = ", ".join(shown(name[:LONGEST]) for name in header[:20]) or "none"
        raise MissingColumnError(f"{title}: columns {found} found, expected {expected}")
    return both[0][0], both[1][0]


def _columns_note(key: str, value: str, first: Column, second: Column) -> str:
    """Return which columns were read, if they have not the documented names."""
    if (key, value) == (first.name, second.name):
        return ""
    return f"columns {quoted(key)} and {quoted(value)} read as {first.name} and {second.name}"
