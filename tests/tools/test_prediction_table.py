import csv
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from sslpipe.tools import prediction_table
from sslpipe.tools.prediction_table import file_name, is_predictions, read_rows, table_writer

COLUMNS = ("file_name", "prediction", "confidence", "error")


@pytest.mark.parametrize(
    ("image", "out", "expected"),
    [
        ("new/a.png", "predictions.csv", "new/a.png"),
        ("./new/../new/a.png", "predictions.csv", "new/a.png"),
        ("new/a.png", "new/metadata.csv", "a.png"),
        ("new/b/a.png", "./new/metadata.csv", "b/a.png"),
        ("../new/a.png", "predictions.csv", "../new/a.png"),
        ("new/a.png", "sub/p.csv", "new/a.png"),
        ("newer/a.png", "new/metadata.csv", "newer/a.png"),
        ("HERE/new/a.png", "new/metadata.parquet", "a.png"),
        ("new/a.png", "HERE/new/metadata.parquet", "a.png"),
        ("new/\udce9.png", "new/metadata.csv", "\\udce9.png"),
    ],
)
def test_names_are_relative_to_the_tables_folder(tmp_path, monkeypatch, image, out, expected):
    monkeypatch.chdir(tmp_path)
    image, out = (text.replace("HERE", os.fspath(tmp_path)) for text in (image, out))
    assert file_name(image, Path(out)) == expected


TEXT = st.text(st.characters(exclude_characters="\0"), max_size=20)
ROW = st.one_of(
    st.fixed_dictionaries({"file_name": TEXT, "prediction": TEXT, "confidence": st.floats(0, 1, width=32)}),
    st.fixed_dictionaries({"file_name": TEXT, "error": TEXT.filter(bool)}),
)


def escaped(value):
    r"""A text with halves of surrogate pairs, which UTF-8 has not, as \\udNNN."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


@given(rows=st.lists(ROW, max_size=12))
def test_both_formats_hold_the_same_rows(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_table, "ROWS", 5)
        for form in (".csv", ".parquet"):
            with table_writer(folder / f"p{form}", COLUMNS, form=form) as write:
                for row in rows:
                    write(row)
            assert is_predictions(folder / f"p{form}")
    with (folder / "p.csv").open(newline="", encoding="utf-8") as file:
        as_text = list(csv.DictReader(file))
    as_rows = parquet.read_table(folder / "p.parquet").to_pylist()
    assert as_rows == [{name: escaped(row.get(name)) for name in COLUMNS} for row in rows]
    for text, row in zip(as_text, as_rows, strict=True):
        for name in COLUMNS:
            value = row[name]
            assert text[name] == ("" if value is None else f"{value:.4f}" if isinstance(value, float) else value)
    for form, found in ((".csv", as_text), (".parquet", as_rows)):
        assert read_rows(folder / f"p{form}") == [{name: row[name] for name in COLUMNS[1:]} for row in found]


def test_other_tables_are_no_predictions(tmp_path):
    for name, content in (
        ("a.csv", b"file_name,price\n"),
        ("b.csv", b"\xff\xfe"),
        ("c.parquet", b"PAR1"),
        ("d.csv", b""),
    ):
        (tmp_path / name).write_bytes(content)
        assert not is_predictions(tmp_path / name), name
    (tmp_path / "e.csv").write_text("file,prediction,confidence,error\n")  # up to version 0.4.0
    assert is_predictions(tmp_path / "e.csv")


def test_a_full_disk_is_an_error_of_the_system(tmp_path):
    for form in (".csv", ".parquet"):
        (tmp_path / f"p{form}").symlink_to("/dev/full")
        with (
            pytest.raises(OSError, match="No space left on device"),
            table_writer(tmp_path / f"p{form}", COLUMNS, form=form) as write,
        ):
            write({"file_name": "a.png"})
