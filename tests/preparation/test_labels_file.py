import csv
import io
import json
import os
import random
import re
import sys
import unicodedata
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sslpipe.io.errors import UserError
from sslpipe.preparation.labels_file import NO_LABEL, find_labels_files, read_labels

IMAGES = ("a.png", "b.png", "é.png", "train/c.png", "train/d 1.jpg", "test/e.png", "0012.jpg")
NFD = unicodedata.normalize("NFD", "é.png")


def read(root, content, images=IMAGES, name="labels.csv", **options):
    """The labels in a file of this content, which is in the folder of the images."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels([path], images, root, **options)


def outcome(*arguments, **options):
    """The labels in such a file, or the error."""
    try:
        return read(*arguments, **options)
    except UserError as error:
        return str(error)


def refusal(root, content, *arguments, **options):
    with pytest.raises(UserError) as raised:
        read(root, content, *arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(str(root) + "/")


# Content of labels.csv, its labels, and words of its notes, with which it says what is not as documented.
TABLES = {
    "documented": ("file,label\na.png,cat\nb.png,dog\n", {"a.png": "cat", "b.png": "dog"}, ()),
    "quotes": ('file,label\na.png,"cat, black"\nb.png,"a ""b"""\n', {"a.png": "cat, black", "b.png": 'a "b"'}, ()),
    "other columns": ("id,label,file,note\n1,cat,a.png,\n", {"a.png": "cat"}, ()),
    "index of pandas": (",file,label\n0,a.png,cat\n1,b.png,\n", {"a.png": "cat"}, ()),
    "blank lines": ("\n\nfile,label\n\na.png,cat\n ,\n\n", {"a.png": "cat"}, ()),
    "trailing separators": ("file,label,,\na.png,cat,,\nb.png,dog,,\n,,,\n", {"a.png": "cat", "b.png": "dog"}, ()),
    "trailing separators below the header": ("file,label\na.png,cat,,\n", {"a.png": "cat"}, ()),
    "left out separators": ("file,label\na.png,cat\nb.png\n", {"a.png": "cat"}, ()),
    "blanks around labels": ("file,label\na.png, cat \nb.png,cat\u00a0\n", {"a.png": "cat", "b.png": "cat"}, ()),
    "words of pandas": (
        "file,label\na.png,NaN\nb.png,N/A\ntrain/c.png,NaN\n0012.jpg,\ntest/e.png,dog\n",
        {"test/e.png": "dog"},
        ("2 with 'NaN', 1 with 'N/A', 1 without text", "remove it from prepare.folder.no_label"),
    ),
    "a word that perhaps means no label": (
        "file,label\na.png,none\nb.png,-1\n",
        {"a.png": "none", "b.png": "-1"},
        ("'none' (1 ×) is a class", "'-1' (1 ×) is a class; if it means no label, add it to prepare.folder.no_label"),
    ),
    "numbers of pandas": (
        "file,label\na.png,3.0\nb.png,\n0012.jpg,10.0\n",
        {"a.png": "3", "0012.jpg": "10"},
        ("labels such as '3.0' are read as '3'",),
    ),
    "versions are no whole numbers": ("file,label\na.png,3.0\nb.png,3.5\n", {"a.png": "3.0", "b.png": "3.5"}, ()),
    "semicolons": ("file;label\na.png;cat, black\n", {"a.png": "cat, black"}, ("separated by semicolons",)),
    "tabs": ("file\tlabel\na.png\tcat; black\n", {"a.png": "cat; black"}, ("separated by tabs",)),
    "bars": ("file|label\na.png|cat\n", {"a.png": "cat"}, ("separated by vertical bars",)),
    "line for Excel": ("sep=;\r\nfile;label\r\na.png;cat\r\n", {"a.png": "cat"}, ("semicolons",)),
    "line for Excel in quotes": ('"sep=,"\nfile,label\na.png,cat\n', {"a.png": "cat"}, ()),
    "carriage returns": ("file,label\ra.png,cat\rb.png,dog\r", {"a.png": "cat", "b.png": "dog"}, ()),
    "UTF-8 with mark": ("\ufefffile,label\né.png,größe\n", {"é.png": "größe"}, ()),
    "UTF-8 with two marks": ("\ufeff\ufefffile,label\na.png,cat\n", {"a.png": "cat"}, ()),
    "UTF-16 of Excel": ("file\tlabel\r\né.png\t猫\r\n".encode("utf-16"), {"é.png": "猫"}, ("read as UTF-16",)),
    "UTF-16, big end first": (
        "\ufefffile,label\né.png,猫\n".encode("utf-16-be"),
        {"é.png": "猫"},
        ("read as UTF-16",),
    ),
    "Windows-1252": ("file;label\né.png;größe\n".encode("cp1252"), {"é.png": "größe"}, ("read as Windows-1252",)),
    "Windows-1252 in labels alone": ("file,label\na.png,größe\n".encode("cp1252"), {"a.png": "größe"}, ("-1252",)),
    "capitals": (" FILE , Label \na.png,cat\n", {"a.png": "cat"}, ("columns ' FILE ' and ' Label ' read as",)),
    "Hugging Face": ("file_name,label\na.png,cat\n", {"a.png": "cat"}, ("columns 'file_name' and 'label'",)),
    "Image Path": ("Image Path,Class-Name\na.png,cat\n", {"a.png": "cat"}, ("columns 'Image Path'",)),
    "filename": ("filename,class\na.png,cat\n", {"a.png": "cat"}, ("'filename' and 'class'",)),
    "filepath": ("category,filepath\ncat,a.png\n", {"a.png": "cat"}, ("'filepath' and 'category'",)),
    "image": ("image,target\na.png,cat\n", {"a.png": "cat"}, ("'image' and 'target'",)),
    "path": ("path,label_name\na.png,cat\n", {"a.png": "cat"}, ("'path' and 'label_name'",)),
    "id alone": ("id,label\n0012,cat\n", {"0012.jpg": "cat"}, ("'id' and 'label'", "no suffix")),
    "dots": ("file,label\n./a.png,cat\ntrain/../b.png,dog\n", {"a.png": "cat", "b.png": "dog"}, ()),
    "backslashes": (
        "file,label\n.\\a.png,cat\ntrain\\c.png,dog\n",
        {"a.png": "cat", "train/c.png": "dog"},
        ("names with backslashes: 2 of 2, such as '.\\\\a.png' for 'a.png'",),
    ),
    "no suffix": (
        "file,label\na,cat\ntrain/c,dog\n",
        {"a.png": "cat", "train/c.png": "dog"},
        ("names with no suffix: 2 of 2, such as 'a' for 'a.png'",),
    ),
    "another case": ("file,label\nA.PNG,cat\n", {"a.png": "cat"}, ("names with another case: 1 of 1",)),
    "another Unicode form": (f"file,label\n{NFD},cat\n", {"é.png": "cat"}, ("names with another Unicode form: 1",)),
    "URL encoding": ("file,label\n%C3%A9.png,cat\n", {"é.png": "cat"}, ("names with URL encoding: 1",)),
    "blanks around names": (
        "file,label\n a.png ,cat\n",
        {"a.png": "cat"},
        ("names with blanks around them: 1 of 1, such as ' a.png ' for 'a.png'",),
    ),
    "names alone": (
        "file,label\nc.png,cat\nd 1,dog\n",
        {"train/c.png": "cat", "train/d 1.jpg": "dog"},
        ("names with folders left out: 1 of 2", "names with folders left out and no suffix: 1 of 2"),
    ),
    "moved folder": (
        "file,label\n/home/me/photos/train/c.png,cat\n/home/me/photos/b.png,dog\n",
        {"train/c.png": "cat", "b.png": "dog"},
        ("names with other folders before them: 2 of 2",),
    ),
    "moved from Windows": (
        "file,label\nC:\\photos\\train\\C.PNG,cat\n",
        {"train/c.png": "cat"},
        ("names with backslashes and other folders before them: 1",),
    ),
    "Shift JIS": (
        "file,label\na.png,猫\n".encode("cp932"),
        {"a.png": "”L"},
        ("read as Windows-1252, as it is not UTF-8 (save it as UTF-8 if '”L' is wrong)",),
    ),
    "JSON in a CSV": (
        '{"file":"a.png","label":"cat"}\n{"file":"b.png","label":"dog"}\n',
        {"a.png": "cat", "b.png": "dog"},
        (),
    ),
    "the NULL of databases": (
        "file,label\na.png,cat\nb.png,\\N\n",
        {"a.png": "cat", "b.png": r"\N"},
        ("is a class; if",),
    ),
    "operators and brackets": (
        "file,label\na.png,==\nb.png,=>\n0012.jpg,[\ntrain/c.png,#1\ntest/e.png,[cat]\n",
        {"a.png": "==", "b.png": "=>", "0012.jpg": "[", "train/c.png": "#1", "test/e.png": "[cat]"},
        (),
    ),
    "several lines in another column": (
        'file,label,text\na.png,cat,"b.png, a dog,\nand 3\nb.png"\n',
        {"a.png": "cat"},
        (),
    ),
    "repeated": (
        "file,label\na.png,cat\n./a.png,cat\n",
        {"a.png": "cat"},
        ("rows that repeat an image with the same label: 1",),
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_as_people_have_them(tmp_path, case):
    content, labels, notes = TABLES[case]
    found = read(tmp_path, content)
    assert found.label == labels
    assert found.rows == len(found.label) + found.unlabelled + found.repeated
    assert all("\n" not in note and note.startswith(str(tmp_path / "labels.csv")) for note in found.notes)
    for note in notes:
        assert any(note in each for each in found.notes), found.notes
    if not notes:
        assert found.notes == ()


# Content of labels.csv, and the beginning of the error after the folder.
REFUSED = {
    "empty": ("", "labels.csv: an empty file found, expected CSV"),
    "web page": ("<!DOCTYPE html>", "labels.csv: HTML, XML or SVG found, expected CSV"),
    "JSON": ('[{"file": "a.png", "label": "cat"}]', "labels.csv line 1: '[{"),
    "rows in quotes": (
        'file,label,text\na.png,cat,"hello\nb.png,dog,x"\n',
        "labels.csv line 2: the row of 'b.png' found in quotes; is a quote missing or too many?",
    ),
    "list": ("file,label\na.png,\"['cat', 'dog']\"\n", "labels.csv line 2: label \"['cat', 'dog']\" is a list or an"),
    "object": (
        'file,label\na.png,"{""choices"": [""cat""]}"\n',
        'labels.csv line 2: label \'{"choices": ["cat"]}\' is a list or an object, expected one label',
    ),
    "formula of cells": ("file,label\na.png,=B2\n", "labels.csv line 2: label '=B2' is a formula, expected its value"),
    "error of a German spreadsheet": (
        "file;label\na.png;#BEZUG!\n",
        "labels.csv line 2: label '#BEZUG!' is an error of",
    ),
    "error of LibreOffice": ("file,label\na.png,Err:508\n", "labels.csv line 2: label 'Err:508' is an error of the"),
    "line break in a label": (
        'file,label\na.png,"black\ncat"\n',
        "labels.csv line 2: label 'black\\ncat' has a line break",
    ),
    "comma without quotes": (
        "file,label\nb.png,dog\na.png,cat, black\n",
        "labels.csv line 3: fields found: 3, expected 2: 'a.png,cat, black'; put a text with commas in double quotes",
    ),
    "comma without quotes, below trailing separators": (
        "file,label,\na.png,cat, black\n",
        "labels.csv line 2: fields found: 3, expected 2",
    ),
    "another separator than the header's": (
        "file,label\na.png;cat\n",
        "labels.csv line 2: fields found: 1, expected 2",
    ),
    "no header": ("a.png,cat\nb.png,dog\n", "labels.csv: no header found, expected file,label in the first line"),
    "no label column": ("file,text\na.png,x\n", "labels.csv: columns file, text found, expected file,label"),
    "two label columns": (
        "file,label,class\na.png,0,cat\n",
        "labels.csv: the columns 'label' and 'class' could each be the label; rename all but one",
    ),
    "two equal columns": ("file,label,label\na.png,0,1\n", "labels.csv: the columns 'label' and 'label' could each"),
    "two file columns": ("file,path,label\na.png,b.png,0\n", "labels.csv: the columns 'file' and 'path' could each be"),
    "no label": ("file,label\na.png,\n", "labels.csv: no label found, expected rows of file,label"),
    "unknown image": (
        "file,label\na.png,cat\nc.pgn,dog\nx.png,dog\n",
        "labels.csv line 3: 'c.pgn' is not an image in {root}; the nearest is 'train/c.png'; rows that name no",
    ),
    "swapped fields": (
        "file,label\ncat,a.png\n",
        "labels.csv line 2: 'cat' is not an image in {root}; the nearest is ",
    ),
    "no file": ("file,label\n,cat\n", "labels.csv line 2: label 'cat' without a file"),
    "two labels": (
        "file,label\na.png,cat\nA.PNG,dog\n",
        "labels.csv line 3: 'A.PNG' has two labels, 'cat' and 'dog'; the first is in line 2, for 'a.png'",
    ),
    "different folders before names": (
        "file,label\nx/a.png,cat\ny/b.png,dog\n",
        "labels.csv line 3: 'y/b.png' is an image in {root} only without its folders, and so is 'x/a.png'; expected",
    ),
    "case of labels": (
        "file,label\na.png,Cat\nb.png,cat\ntrain/c.png,cat\n",
        "labels.csv line 3: labels 'cat' (2 ×) and 'Cat' (1 ×, first in line 2) differ only in case, Unicode form",
    ),
    "Unicode form of labels": (
        f"file,label\na.png,é\nb.png,{NFD[:2]}\n",
        "labels.csv line 3: labels 'e\\u0301' (1 ×) and '\\xe9' (1 ×, first in line 2) differ only in",
    ),
    "blanks in labels": (
        "file,label\na.png,black cat\nb.png,black  cat\n",
        "labels.csv line 3: labels 'black  cat' (1 ×) and 'black cat' (1 ×, first in line 2) differ only in",
    ),
    "zeros of labels": ("file,label\na.png,01\nb.png,1\n", "labels.csv line 3: labels '1' (1 ×) and '01' (1 ×, first"),
    "numbers of pandas among texts": (
        "file,label\na.png,3.0\nb.png,3\n0012.jpg,cat\n",
        "labels.csv line 3: labels '3' (1 ×) and '3.0' (1 ×, first in line 2) differ only in",
    ),
    "open quote": (
        'file,label\nb.png,dog\na.png,"cat\n',
        "labels.csv line 3: not readable as CSV: unexpected end of data; is a quote missing or too many?",
    ),
    "open quotes in two rows": (
        'file,label\na.png,"cat\nb.png,dog"\n',
        "labels.csv line 2: the row of 'b.png' found in quotes; is a quote missing or too many?",
    ),
    "blank before quotes": ('file,label\na.png, "cat"\n', "labels.csv line 2: blank before a quote found; remove it"),
    "endless field": ("file,label\na.png," + "c" * 200_000, "labels.csv line 2: not readable as CSV: field larger"),
    "long name": ("file,label\n" + "n" * 5000 + ",cat\n", "labels.csv line 2: 'nnn"),
    "NUL": (
        b"file,label\na.png,cat\0\n",
        "labels.csv line 2: NUL character found, expected text; save the table as CSV",
    ),
    "UTF-16 without mark": (
        "file,label\n".encode("utf-16-le"),
        "labels.csv line 1: NUL character found, expected text",
    ),
    "cut UTF-16": (
        "file,label\na.png,cat".encode("utf-16")[:-1],
        "labels.csv: damaged, its byte order mark says UTF-16",
    ),
    "two encodings": (
        "file,label\né.png,cat\na.png,".encode() + "größe\n".encode("cp1252"),
        "labels.csv line 3: 'gr\\udcf6\\udcdfe' found, expected UTF-8",
    ),
    "neither UTF-8 nor Windows-1252": (
        b"file,label\na.png,\x81\n",
        "labels.csv line 2: '\\udc81' found, expected UTF-8",
    ),
    "formula": (
        'file,label\na.png,"=VLOOKUP(A2,B:C,2)"\n',
        "labels.csv line 2: label '=VLOOKUP(A2,B:C,2)' is a formula",
    ),
    "text as formula": (
        'file,label\na.png,"=""cat"""\n',
        "labels.csv line 2: label '=\"cat\"' is a formula, expected its",
    ),
    "error of a spreadsheet": (
        "file,label\na.png,#REF!\n",
        "labels.csv line 2: label '#REF!' is an error of the spread",
    ),
    "workbook": (
        b"PK\3\4\x14\0",
        "labels.csv: a workbook or a ZIP file found, expected CSV; save the table as CSV in UT",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_are_not_clear(tmp_path, case):
    content, message = REFUSED[case]
    assert refusal(tmp_path, content).startswith(message.replace("{root}", str(tmp_path)))
    assert len(refusal(tmp_path, content)) < 500 + len(str(tmp_path))


def test_a_setting_says_which_words_mean_no_label(tmp_path):
    content = "file,label\na.png,NA\nb.png,?\n0012.jpg,\n"
    assert read(tmp_path, content).label == {"b.png": "?"}
    assert read(tmp_path, content, no_label=()).label == {"a.png": "NA", "b.png": "?"}
    assert read(tmp_path, content, no_label=("?",)).label == {"a.png": "NA"}
    assert "" in NO_LABEL


def test_letters_in_both_cases_are_two_classes(tmp_path):
    assert read(tmp_path, "file,label\na.png,A\nb.png,a\n").label == {"a.png": "A", "b.png": "a"}


@pytest.mark.parametrize(
    ("text", "images"),
    [("a", "'a.jpg' and 'a.png'"), ("c.png", "'test/c.png' and 'train/c.png'"), ("B.png", "'b.PNG' and 'b.png'")],
)
def test_a_name_that_two_images_fit_is_refused(tmp_path, text, images):
    several = ("a.jpg", "a.png", "test/c.png", "train/c.png", "b.PNG", "b.png")
    assert read(tmp_path, "file,label\na.png,cat\n", several).label == {"a.png": "cat"}
    message = refusal(tmp_path, f"file,label\n{text},cat\n", sorted(several))
    assert re.match(f"labels.csv line 2: '{text}' fits '.*' and '.*', expected one image in ", message)
    assert f"fits {images}, expected" in message


def test_names_relative_to_the_file_and_absolute(tmp_path):
    root = tmp_path / "photos"
    (root / "lists").mkdir(parents=True)
    for folder, name in ((tmp_path, "photos/a.png"), (root / "lists", "../a.png"), (tmp_path, root / "a.png")):
        path = folder / "mine.csv"
        path.write_text(f"file,label\n{name},cat\n")
        found = read_labels([path], IMAGES, root)
        assert found.label == {"a.png": "cat"}
        assert "paths" in found.notes[0]
    (tmp_path / "link").symlink_to(root)
    assert read(tmp_path / "link", f"file,label\n{root}/b.png,cat\n").label == {"b.png": "cat"}
    assert read(root, f"file,label\nfile://{quote(str(root))}/b.png,cat\n").label == {"b.png": "cat"}


def test_a_file_in_a_sub_folder_that_two_images_fit(tmp_path):
    images = ("a.png", "train/a.png", "b.png", "train/c.png")
    content = "file,label\nb.png,dog\nc.png,cat\n"
    assert read(tmp_path, content, images, name="train/labels.csv").label == {"b.png": "dog", "train/c.png": "cat"}
    message = refusal(tmp_path, "file,label\na.png,cat\n", images, name="train/labels.csv")
    assert "'a.png' fits 'a.png' and 'train/a.png', expected one image" in message


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"sub/\xe9.png")
    raw = b"file,label\nsub/\xe9.png,"
    assert read(tmp_path, raw + "größe\n".encode(), [name, "a.png"]).label == {name: "größe"}
    assert read(tmp_path, raw + "größe\n".encode("cp1252"), [name, "a.png"]).label == {name: "größe"}
    found = read(tmp_path, "file,label\nsub/é.png,cat\n", [name, "a.png"])
    assert found.label == {name: "cat"}
    assert "another encoding" in found.notes[0]
    assert read(tmp_path, json.dumps({"file": name, "label": "x"}), [name], "labels.jsonl").label == {name: "x"}


def test_exact_names_win(tmp_path):
    images = ("a.png", " a.png", "a%2E.png", "a..png", "b\\c.png", "b/c.png", "A.png")
    for name in images:
        assert read(tmp_path, f"file,label\n{name},cat\n", images).label == {name: "cat"}
        assert read(tmp_path, f"file,label\n{name},cat\n", images).notes == ()


LINES = {
    "texts": ('{"file_name": "a.png", "label": "x"}\n\n{"label": 3, "file_name": "b"}\n', {"a.png": "x", "b.png": "3"}),
    "numbers": ('{"file": "a.png", "label": 3}\n{"file": "b.png", "label": 4.0}', {"a.png": "3", "b.png": "4"}),
    "truth values": ('{"file": "a.png", "label": true}\n{"file": "b.png", "label": null}', {"a.png": "True"}),
    "missing": ('{"file": "a.png", "label": "NaN"}\n{"file": "b"}\n{"file": "0012", "label": "x"}', {"0012.jpg": "x"}),
    "missing number": ('{"file": "a.png", "label": NaN}\n{"file": 12, "label": 0}', None),
    "list": ('{"file": "a.png", "label": ["cat"]}', "line 1: a list found in label, expected a text"),
    "object": ('{"file": "a.png", "label": {"a": 1}}', "line 1: dict found in label, expected a text"),
    "no object": ('{"file": "a.png", "label": 1}\n["a.png", 1]', "line 2: '[\"a.png\", 1]' found, expected a JSON"),
    "no JSON": ('{"file": "a.png", "label": 1}\nfile,label', "line 2: not readable as JSON: Expecting value"),
    "deep": ("[" * 100_000, "line 1: not readable as JSON: "),
    "repeated key": ('{"file": "a.png", "label": 1, "label": 2}', "line 1: not readable as JSON: a key is repeated"),
    "half a character": ('{"file": "a.png", "label": "\\ud800"}', "line 1: '\\ud800' found, expected UTF-8"),
    "no columns": ("{}\n", ": columns none found, expected file,label"),
    "names as keys": ('{"a.png": "cat"}', ": columns a.png found, expected file,label"),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_json_lines(tmp_path, case):
    content, expected = LINES[case]
    if isinstance(expected, dict):
        assert read(tmp_path, content, name="metadata.jsonl").label == expected
    else:
        expected = expected or "line 2: '12' is not an image in"
        assert (
            refusal(tmp_path, content, name="metadata.jsonl")
            .removeprefix("metadata.jsonl")
            .lstrip()
            .startswith(expected)
        )


def parquet(path, **columns):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet(tmp_path):
    import pyarrow

    files = ["a.png", "b.png", "train\\c.png"]
    path = tmp_path / "metadata.parquet"
    for values, labels in (
        (["cat", None, "dog"], ["cat", None, "dog"]),
        ([3, None, 4], ["3", None, "4"]),
        ([3.0, float("nan"), 4.0], ["3", None, "4"]),
        ([True, None, False], ["True", None, "False"]),
        (pyarrow.array(["cat", "dog", "cat"]).dictionary_encode(), ["cat", "dog", "cat"]),
    ):
        found = read_labels([parquet(path, file_name=files, label=values, note=[1, 2, 3])], IMAGES, tmp_path)
        assert [found.label.get(name) for name in ("a.png", "b.png", "train/c.png")] == labels
        assert found.rows == 3
    for columns, message in (
        ({"label": [["cat"], None, ["dog"]]}, "row 1: a list found in label, expected a text"),
        ({"label": [b"cat", b"dog", b"x"]}, "row 1: bytes found in label, expected a text"),
        ({"label": ["cat", "dog", "x"], "class": [1, 2, 3]}, ": the columns 'label' and 'class' could each be"),
        ({"text": ["cat", "dog", "x"]}, ": columns file_name, text found, expected file,label"),
        ({"label": ["cat", "Cat", None]}, "row 2: labels 'Cat' (1 ×) and 'cat' (1 ×, first in row 1) differ only in"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            read_labels([parquet(path, file_name=files, **columns)], IMAGES, tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"metadata.parquet: not readable as Parquet: "):
        read_labels([path], IMAGES, tmp_path)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = parquet(tmp_path / "labels.parquet", file=["a.png"], label=["cat"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError, match=r"^/.*labels.parquet: pyarrow is not installed; pip install 'sslpipe\[parquet\]'$"
    ):
        read_labels([path], IMAGES, tmp_path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"^prepare.folder.labels: .*none.csv does not exist$"):
        read_labels([tmp_path / "none.csv"], IMAGES, tmp_path)
    with pytest.raises(UserError, match=r"cannot be read: Is a directory$"):
        read_labels([tmp_path], IMAGES, tmp_path)
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"labels.csv: cannot be read: Is a pipe$"):
        read_labels([tmp_path / "labels.csv"], IMAGES, tmp_path)


def test_labels_files_are_found(tmp_path):
    assert find_labels_files(tmp_path) == find_labels_files(tmp_path / "none") == ()
    for name in ("train/x.csv", "metadata.csv", "train/metadata.jsonl", "test/metadata.parquet", ".cache/metadata.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "train/deep/metadata.csv").mkdir(parents=True)
    names = ("metadata.csv", "test/metadata.parquet", "train/metadata.jsonl")
    assert find_labels_files(tmp_path) == tuple(tmp_path / name for name in names)
    (tmp_path / "Labels.CSV").touch()
    (tmp_path / "train/labels.tsv").touch()
    assert find_labels_files(tmp_path) == (tmp_path / "Labels.CSV", tmp_path / "train/labels.tsv")


def test_metadata_of_hugging_face_is_read_where_it_is_found(tmp_path):
    for name, content in (
        ("metadata.csv", "file_name,text\na.png,x\n"),
        ("train/metadata.csv", "file_name,label\nc.png,cat\nd 1.jpg,\n"),
        ("test/metadata.jsonl", '{"file_name": "e.png", "label": "dog"}\n'),
        ("other/metadata.csv", "file_name,label\nz.png,cat\n"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = read_labels(find_labels_files(tmp_path), IMAGES, tmp_path, found=True)
    assert found.label == {"train/c.png": "cat", "test/e.png": "dog"}
    assert (found.rows, found.unlabelled) == (3, 1)
    notes = "\n".join(found.notes)
    assert "metadata.csv: columns file_name, text found, expected file,label; no label is read from it" in notes
    assert "other/metadata.csv: not read, as its folder has no image; to read it, set prepare.folder.labels" in notes
    with pytest.raises(UserError, match="columns file_name, text found"):
        read_labels([tmp_path / "metadata.csv"], IMAGES, tmp_path)


def test_two_files_must_agree(tmp_path):
    paths = [tmp_path / name for name in ("labels.csv", "labels.tsv")]
    paths[0].write_text("file,label\na.png,cat\n")
    paths[1].write_text("file\tlabel\na.png\tcat\nb.png\tdog\n")
    assert read_labels(paths, IMAGES, tmp_path).label == {"a.png": "cat", "b.png": "dog"}
    paths[1].write_text("file\tlabel\nb.png\tcat\na.png\tdog\n")
    with pytest.raises(
        UserError, match=r"tsv line 3: 'a.png' has two labels, 'cat' and 'dog'; the first is in .*csv line 2$"
    ):
        read_labels(paths, IMAGES, tmp_path)
    paths[1].write_text("file\tlabel\nb.png\tCat\n")
    with pytest.raises(
        UserError, match=r"tsv line 2: labels 'Cat' \(1 ×\) and 'cat' \(1 ×, first in .*labels.csv line 2\)"
    ):
        read_labels(paths, IMAGES, tmp_path)


NAMES = ("a.png", "sub/ç 1.png", "sub/日本.jpg", "Ω.gif", "x,y;z.png", 'q"q.png', "100%.png", "sub/deep/tab\t.png")
FORMS = {
    "as it is": str,
    "dot": lambda name: f"./{name}",
    "backslashes": lambda name: name.replace("/", "\\"),
    "capitals": str.upper,
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "URL": quote,
    "no suffix": lambda name: name.rpartition(".")[0],
    "blanks": lambda name: f" {name}  ",
    "moved": lambda name: f"/home/me/{name}",
    "alone": lambda name: name.rpartition("/")[2],
}
HEADERS = [("file", "label"), ("File Name", "CLASS"), (" image-path ", "Label_Name"), ("filepath", "target")]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "cp1252"]
WORDS = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=12)


@st.composite
def tables(draw, texts):
    """The content of a table, and the labels in it."""
    labels = draw(st.lists(texts, min_size=len(NAMES), max_size=len(NAMES)))
    encoding = draw(st.sampled_from(ENCODINGS))
    form = FORMS[draw(st.sampled_from(sorted(FORMS)))]
    header = draw(st.sampled_from(HEADERS))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    # Before 3.13, csv.writer does not quote line breaks other than the ends of its rows.
    breaks = any(character in label for label in labels for character in "\r\n")
    quoting = csv.QUOTE_ALL if breaks else draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    rows = [header, *((form(name), label) for name, label in zip(NAMES, labels, strict=True))]
    kind = draw(st.sampled_from(["two columns", "turned", "index", "trailing"]))
    if kind == "turned":
        rows = [row[::-1] for row in rows]
    elif kind == "index":
        rows = [("" if i == 0 else str(i - 1), *row) for i, row in enumerate(rows)]
    elif kind == "trailing":
        rows = [(*row, "", "") for row in rows]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=draw(st.sampled_from(",;\t|")), quoting=quoting, lineterminator=end).writerows(rows)
    try:
        content = file.getvalue().encode(encoding)
    except UnicodeEncodeError:
        assume(False)
    if encoding == "cp1252":  # bytes that are UTF-8 too are UTF-8
        with suppress(UnicodeDecodeError):
            assume(content.decode("utf-8") == content.decode("cp1252"))
    return content, dict(zip(NAMES, labels, strict=True))


def expected(labels):
    """The labels that are documented: without blanks around them, and whole numbers without .0."""
    labels = {name: label.strip() for name, label in labels.items() if label.strip() not in NO_LABEL}
    if all(re.fullmatch(r"[+-]?[0-9]+(\.0+)?", label) for label in labels.values()):
        return {name: label.partition(".")[0] for name, label in labels.items()}
    return labels


HYPOTHESIS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@HYPOTHESIS
@given(table=tables(st.text(st.characters(exclude_categories=["Cs"]), max_size=8)))
def test_any_labels_come_back_exactly_or_are_refused(tmp_path_factory, table):
    content, labels = table
    found = outcome(tmp_path_factory.getbasetemp(), content, NAMES)
    if isinstance(found, str):
        assert "\n" not in found
        assert re.search(r" (line \d+: |no label found)", found)
    else:
        assert found.label == expected(labels)
        assert found.rows == len(NAMES)


@HYPOTHESIS
@given(table=tables(st.one_of(WORDS, st.sampled_from(["cat", "dog", "", "NaN", "7", "8.0", "a, b; c", 'a "b"']))))
def test_usual_labels_come_back_exactly(tmp_path_factory, table):
    content, labels = table
    wanted = expected(labels)
    spelled = {unicodedata.normalize("NFC", label.casefold()) for label in wanted.values()}
    assume(wanted and len(spelled) == len(set(wanted.values())))
    assume(not any(label.startswith(("=", "#")) for label in wanted.values()))  # formulas, errors of spreadsheets
    found = outcome(tmp_path_factory.getbasetemp(), content, NAMES)
    if isinstance(found, str):  # 1 and 01, or 3.0 among texts
        assert "differ only in case, Unicode form, blanks or zeros" in found
    else:
        assert found.label == wanted


def whole_table(generator):
    """The content of a file of 30 rows and the suffix of the file."""
    images = [f"sub/é{i}.png" if i % 3 else f"im{i}.png" for i in range(30)]
    rows = [(name, generator.choice(["cat", "größe", "", "NaN", "dog"])) for name in images]
    kind = generator.choice([",", ";", "\t", "utf-16", "cp1252", "jsonl", "parquet"])
    if kind == "jsonl":
        content = "".join(json.dumps({"file": name, "label": label}) + "\n" for name, label in rows).encode()
    elif kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        buffer = io.BytesIO()
        columns = {"file": [name for name, _ in rows], "label": [label for _, label in rows]}
        parquet.write_table(pyarrow.table(columns), buffer)
        content = buffer.getvalue()
    else:
        separator = kind if len(kind) == 1 else ","
        text = "".join(f"{name}{separator}{label}\r\n" for name, label in [("file", "label"), *rows])
        content = text.encode(kind if len(kind) > 1 else "utf-8")
    return images, content, kind if kind in ("jsonl", "parquet") else "csv"


def damaged(content, generator):
    content = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        place, kind = (
            generator.randrange(len(content)),
            generator.choice(["flip", "cut", "drop", "double", "swap", "put"]),
        )
        if kind == "flip":
            content[place] ^= 1 << generator.randrange(8)
        elif kind == "cut":
            content = content[: max(place, 1)]
        elif kind == "drop":
            del content[place : place + generator.randint(1, 20)]
        elif kind == "double":
            content[place:place] = content[place : place + 40]
        elif kind == "swap":
            fields = bytes(content).split(b",")
            i, j = generator.randrange(len(fields)), generator.randrange(len(fields))
            fields[i], fields[j] = fields[j], fields[i]
            content = bytearray(b",".join(fields))
        else:
            content[place:place] = generator.choice([b'"', b"\0", b"\r", b",", b";", b"\xff", b"\xef\xbb\xbf", b"\n\n"])
        content = content or bytearray(b"x")
    return bytes(content)


@pytest.mark.parametrize("seed", range(100))
def test_every_row_of_a_damaged_file_is_accounted_for(tmp_path, seed):
    generator = random.Random(seed)
    images, content, suffix = whole_table(generator)
    found = read(tmp_path, content, images, f"labels.{suffix}")
    assert found.rows == 30
    content = damaged(content, generator)
    found = outcome(tmp_path, content, images, f"labels.{suffix}")
    if isinstance(found, str):
        assert "\n" not in found
        assert len(found) < 1000
    else:
        assert found.rows == len(found.label) + found.unlabelled + found.repeated
        assert set(found.label) <= set(images)
        if suffix == "csv" and b'"' not in content:
            encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
            lines = [line for line in re.split("[\r\n]+", content.decode(encoding)) if line.strip(" ,;\t")]
            assert found.rows == len(lines) - 1


def test_the_nearest_image_is_named_whatever_is_wrong(tmp_path):
    images = [f"train/{i % 7}/IMG_{i:05d}.jpg" for i in range(20_000)]
    for text, nearest in (
        ("train/2/IMG_01234.jpeg", "train/2/IMG_01234.jpg"),
        ("IMG-01234.jpg", "train/2/IMG_01234.jpg"),
        ("train/9/IMG_01234.jpg", "train/2/IMG_01234.jpg"),
        ("TRAIN/2/XIMG_01234.jpg", "train/2/IMG_01234.jpg"),
        ("猫", "train/"),
        ("/", "train/"),
    ):
        assert f"; the nearest is '{nearest}" in refusal(tmp_path, f"file,label\n{text},cat\n", images)
