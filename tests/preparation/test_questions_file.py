import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sslpipe.data.store import UNKNOWN
from sslpipe.io.errors import UserError
from sslpipe.preparation.labels_file import read_labels
from sslpipe.preparation.questions_file import COLUMNS, Row, read_rows, write_rows
from sslpipe.preparation.splits import draw_splits
from sslpipe.sources.folder import Settings, Source

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=8
).filter(lambda text: text == text.strip() and "\ufeff" not in text)
ROWS = [
    Row("a/1.png", "cat", "1", "most typical of group 3, which has no label", "3"),
    Row("a/2.png", "", "2", 'check "x", or not', "3"),
    Row("a/3.png", "dog", "3", "random", "0", "cat"),
    Row("a/4.png", "bird", reason="known before"),
]


@settings(max_examples=40, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True), label=NAMES | st.just(""))
def test_what_is_written_is_read(tmp_path_factory, names, label):
    path = tmp_path_factory.mktemp("questions") / "questions.csv"
    rows = [Row(f"{name}.png", label, str(i), name, label, name) for i, name in enumerate(names, 1)]
    write_rows(path, rows)
    assert read_rows(path) == rows


def test_names_that_are_not_unicode(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_rows(tmp_path / "q.csv", [Row(name, "cat", "1"), Row("b.png")])
    assert b"caf\xe9.png" in (tmp_path / "q.csv").read_bytes()
    found = read_labels([tmp_path / "q.csv"], [name, "b.png"], tmp_path)
    assert (found.label, found.asked) == ({name: "cat"}, {name: ""})


@pytest.mark.parametrize("form", [{"delimiter": ";"}, {"delimiter": "\t"}, {"quoting": csv.QUOTE_ALL}])
def test_the_reader_of_labels_takes_the_file_as_it_is_and_as_a_spreadsheet_saves_it(tmp_path, form):
    path = tmp_path / "questions.csv"
    with path.open("w", newline="", encoding="utf-16") as file:
        writer = csv.writer(file, **form)
        writer.writerow(COLUMNS)
        writer.writerows([row.file, row.label, row.question, row.reason, row.group, row.before] for row in ROWS)
    assert read_rows(path) == ROWS
    found = read_labels([path], [row.file for row in ROWS], tmp_path)
    assert found.label == {"a/1.png": "cat", "a/3.png": "dog", "a/4.png": "bird"}
    assert found.asked == {"a/1.png": "", "a/3.png": "cat"}
    assert (found.rows, found.unlabelled, found.repeated) == (4, 1, 0)


def test_a_table_of_other_origin_with_a_column_question_has_no_questions(tmp_path):
    (tmp_path / "q.csv").write_text("file,question,label\n1.png,what is it?,cat\n")
    found = read_labels([tmp_path / "q.csv"], ["1.png"], tmp_path)
    assert (found.label, found.asked) == ({"1.png": "cat"}, {})


def test_other_columns_are_refused(tmp_path):
    (tmp_path / "q.csv").write_text("image,name\n1.png,2\n")
    with pytest.raises(UserError, match=r"q.csv: columns image, name found, expected file,label"):
        read_rows(tmp_path / "q.csv")
    with pytest.raises(UserError, match=r"none.csv: cannot be read"):
        read_rows(tmp_path / "none.csv")


@pytest.mark.parametrize("draw", ["by_class", "unlabelled", "blind"])
@pytest.mark.parametrize("layout", ["flat", "parts"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_move_no_image_to_another_split(tmp_path, draw, layout, seed):
    """Labels first from a table or from class folders, then from questions, with classes that were not known before."""
    rng = np.random.default_rng(seed)
    parts = [f"train/{'mno'[i % 3]}/{i}.png" if i % 2 else f"unlabeled/{i}.png" for i in range(90)]
    names = parts if layout == "parts" else [f"{i}.png" for i in range(90)]
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / "images" / name)
    first, questions = tmp_path / "first.csv", tmp_path / "questions.csv"
    known = {name: "nmo"[rng.integers(3)] for name in names if rng.random() < 0.4}
    first.write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in known.items()))

    def splits(labels):
        source = Source(Settings(path=str(tmp_path / "images"), labels=labels, layout=layout))
        drawn = draw_splits(source.entries, test=0.25, held_out=0.2, protocol="split", seed=seed, draw=draw)
        return source, {split: [source.entries[i].name for i in index] for split, index in drawn.items()}

    source, before = splits(None if layout == "parts" else str(first))
    carried = {each.name: source.classes[each.label] for each in source.entries if each.label != UNKNOWN}
    asked = [name for name in before["train"] + before["held_out"] if name not in carried][:25]
    again = [name for name in carried if name in before["train"]][:3]
    rows = [Row(name, label) for name, label in carried.items() if name not in again]
    rows += [Row(name, "aznm"[i % 4], str(i + 1)) for i, name in enumerate(asked)]
    rows += [Row(name, "z", str(40 + i), before=carried[name]) for i, name in enumerate(again)]
    write_rows(questions, rows)
    answered, after = splits(str(questions))
    assert after == before
    label = {entry.name: entry.label for entry in answered.entries}
    assert all(answered.classes[label[name]] == "aznm"[i % 4] for i, name in enumerate(asked))
    assert {entry.name for entry in answered.entries if entry.asked} == {*asked, *again}
    # As labels that were known from the start they do move images, so that the test sees something.
    write_rows(questions, [replace(row, question="", before="") for row in rows])
    assert (splits(str(questions))[1] != before) == (draw != "blind")
