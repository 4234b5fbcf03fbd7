import csv
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from sslpipe.io.errors import UserError
from sslpipe.sources.folder import Settings, Source

sys.path.insert(0, str(Path(__file__).parents[1]))
from hostile import reads_everything


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path, format="PNG")


def source(root, **settings):
    return Source(Settings(path=str(root), **settings))


def labels(found):
    """Name → class, None where there is none."""
    return {entry.name: found.classes[entry.label] if entry.label >= 0 else None for entry in found.entries}


def parts(found):
    return {entry.name: entry.part for entry in found.entries}


def test_class_folders_in_natural_order(tmp_path):
    make(tmp_path, "10/b.png", "10/a.png", "2/10.png", "2/9.png", "1/x/deep.png", "1/y.png")
    found = source(tmp_path)
    assert found.classes == ("1", "2", "10")
    assert labels(found) == {
        "1/y.png": "1",
        "1/x/deep.png": "1",
        "2/9.png": "2",
        "2/10.png": "2",
        "10/a.png": "10",
        "10/b.png": "10",
    }
    assert [entry.name for entry in found.entries] == list(labels(found))
    assert set(parts(found).values()) == {None}
    assert found.load(0) == tmp_path / "1/y.png"


def test_parts_share_their_classes(tmp_path):
    make(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/dog/1.png", "val/cat/1.png")
    found = source(tmp_path)
    assert found.classes == ("cat", "dog")
    assert parts(found) == {
        "train/cat/1.png": "train",
        "train/dog/1.png": "train",
        "test/dog/1.png": "test",
        "val/cat/1.png": "held_out",
    }
    assert labels(found)["test/dog/1.png"] == "dog"


def test_a_class_that_only_test_has_is_refused_with_its_name(tmp_path):
    make(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/dog/1.png", "test/ant/1.png", "test/ant/2.png")
    with pytest.raises(UserError, match=r"no training image is of 'ant' \(2 others\); rename the class"):
        source(tmp_path)


def test_a_class_that_test_spells_in_another_way_is_refused_with_both_names(tmp_path):
    make(tmp_path, "train/Cat/1.png", "train/Ka\u0308fer/1.png", "test/Cat/1.png", "test/K\u00e4fer/1.png")
    with pytest.raises(UserError, match=r"'K\\xe4fer' and 'Ka\\u0308fer' differ by Unicode form only; rename"):
        source(tmp_path)


def test_unlabelled_train_beside_labelled_test(tmp_path):
    make(tmp_path, "train/1.png", "test/cat/1.png", "test/dog/1.png")
    found = source(tmp_path)
    assert labels(found) == {"train/1.png": None, "test/cat/1.png": "cat", "test/dog/1.png": "dog"}


def test_train_alone_is_no_class_and_has_no_test(tmp_path):
    make(tmp_path, "train/cat/1.png", "train/dog/1.png")
    found = source(tmp_path)
    assert found.classes == ("cat", "dog")
    assert set(parts(found).values()) == {None}


def test_train_may_be_a_class_among_others(tmp_path):
    make(tmp_path, "bus/1.png", "car/1.png", "train/1.png")
    assert source(tmp_path).classes == ("bus", "car", "train")


def test_flat_folder_has_no_labels(tmp_path):
    make(tmp_path, "b.png", "a.png")
    found = source(tmp_path)
    assert found.classes == ()
    assert labels(found) == {"a.png": None, "b.png": None}


def test_images_beside_sub_folders_are_doubtful_and_the_layout_decides(tmp_path):
    make(tmp_path, "a.png", "more/b.png")
    with pytest.raises(UserError, match=r"1 image \(a.png\) beside more/; move one or the other away, or say"):
        source(tmp_path)
    assert labels(source(tmp_path, layout="flat")) == {"a.png": None, "more/b.png": None}
    found = source(tmp_path, layout="classes")
    assert labels(found) == {"a.png": None, "more/b.png": "more"}
    assert "no label for 1 image beside the class folders (a.png)" in found.notes


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_labels_file_names_the_few(tmp_path, mark):
    make(tmp_path, "images/a.png", "images/b.png", "images/c.png")
    text = f'{mark}label,file,note\ncat,./images/a.png,x\n"dog, old",images/c.png,\n,images/b.png,\n\n'
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    found = source(tmp_path)
    assert labels(found) == {"images/a.png": "cat", "images/b.png": None, "images/c.png": "dog, old"}
    assert found.ignored == {}


def test_labels_file_elsewhere_and_class_folders_of_the_other_part(tmp_path):
    make(tmp_path, "data/train/1.png", "data/train/2.png", "data/test/cat/1.png")
    (tmp_path / "mine.csv").write_text("file,label\ntrain/2.png,cat\n")
    found = source(tmp_path / "data", labels=str(tmp_path / "mine.csv"))
    assert labels(found) == {"train/1.png": None, "train/2.png": "cat", "test/cat/1.png": "cat"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file found, expected CSV"),
        (b"file,label\n", "no label found"),
        (b"file,label\nz.png,cat\n", r"line 2: 'z.png' is not an image in"),
        (b"file,label\na.png,cat\na.png,dog\n", "line 3: 'a.png' has two labels, 'cat' and 'dog'"),
        (b"file,label\na.png," + b"c" * 200_000, "not readable as CSV: field larger than field limit"),
        (b'file,label\na.png,"cat\nb.png,dog\n', "not readable as CSV: unexpected end of data"),
    ],
)
def test_bad_labels_files(tmp_path, content, message):
    make(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        source(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_labels_file_that_is_asked_for_must_be_there(tmp_path):
    make(tmp_path, "a.png")
    with pytest.raises(UserError, match=r"folder.labels: .* does not exist"):
        source(tmp_path, labels=str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        source(tmp_path, labels=str(tmp_path))


def test_other_files_are_passed_over_and_counted(tmp_path):
    make(tmp_path, "cat/1.png", "cat/.hidden.png", ".thumbnails/2.png", "cat/3", "dog/1.png", "dog/@eaDir/1.png")
    (tmp_path / "README").write_text("Read me.")
    (tmp_path / "notes.txt").write_text("cats")
    (tmp_path / "cat" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    os.mkfifo(tmp_path / "cat" / "pipe")
    found = source(tmp_path)
    assert labels(found) == {
        "cat/1.png": "cat",
        "cat/3": "cat",
        "cat/phone.heic": "cat",
        "cat/pipe.png": "cat",
        "dog/1.png": "dog",
    }
    assert found.ignored == {"without suffix": 2, ".txt": 1}
    assert found.notes == (
        "folders without images left out: empty/",
        "hidden folders and images left out: .thumbnails/, cat/.hidden.png",
        "system folders left out: dog/@eaDir/",
        "other files left out: 2 without suffix, 1 .txt",
    )


def test_broken_files_with_an_image_suffix_are_kept_to_be_reported(tmp_path):
    make(tmp_path, "cat/1.png")
    (tmp_path / "cat" / "2.jpg").write_text("text")
    (tmp_path / "cat" / "3.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "cat" / "4.png").symlink_to(tmp_path / "cat" / "4.png")
    assert list(labels(source(tmp_path))) == ["cat/1.png", "cat/2.jpg", "cat/3.png", "cat/4.png"]


def test_links_are_followed_and_loops_are_not(tmp_path):
    root = tmp_path / "root"
    make(tmp_path, "root/cat/1.png", "root/dog/1.png", "elsewhere/2.png", "outside.png")
    (root / "ant").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "above").symlink_to(tmp_path)
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "dog" / "nowhere").symlink_to(root / "dog" / "nowhere")
    (root / "zoo").symlink_to(tmp_path / "elsewhere")
    found = source(root)
    assert labels(found) == {"ant/2.png": "ant", "cat/1.png": "cat", "dog/1.png": "dog"}
    assert found.notes[0] == (
        "links to folders that are searched already left out: zoo/ → ant, cat/above/ → /, cat/self/ → cat, cat/up/ → ."
    )


ODD_NAMES = [
    "with space.png",
    "new\nline.png",
    "return\rline.png",
    "猫.png",
    "кот é.png",
    "שלום.png",
    "\u202egnp.png",
    "-dash.png",
    "a,b'\".png",
    "=1+1.png",
    "no utf-8 \udce9\udcff.png",
    f"{'n' * 251}.png",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(tmp_path, name):
    make(tmp_path, f"cat/{name}", "dog/1.png")
    found = source(tmp_path)
    assert labels(found) == {f"cat/{name}": "cat", "dog/1.png": "dog"}
    assert found.load(0).exists()


def test_odd_names_in_a_labels_file(tmp_path):
    make(tmp_path, *ODD_NAMES)
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([name, f"the {i} 猫\n"] for i, name in enumerate(ODD_NAMES))
    assert labels(source(tmp_path)) == {name: f"the {i} 猫" for i, name in enumerate(ODD_NAMES)}


def test_odd_class_names(tmp_path):
    (tmp_path / "labels.csv").write_text(f"file,label\na.png,{'9' * 5000}\nb.png,{'0' * 6000}7\nc.png,10\n")
    make(tmp_path, "a.png", "b.png", "c.png")
    assert source(tmp_path).classes == ("0" * 6000 + "7", "10", "9" * 5000)


def test_a_labels_file_that_is_none_is_not_waited_for(tmp_path):
    make(tmp_path, "a.png")
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"labels.csv: cannot be read: Is a pipe"):
        source(tmp_path)


def test_sub_folders_that_cannot_be_read_are_told(tmp_path, monkeypatch):
    make(tmp_path, "train/cat/1.png", "train/dog/1.png", "train/ant/1.png", "test/cat/1.png", "test/dog/old/1.png")
    closed = {str(tmp_path / name) for name in ("train/dog", "test/dog/old")}
    scandir = os.scandir

    def refuse(path):
        if str(path) in closed:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = source(tmp_path)
    assert labels(found) == {"train/ant/1.png": "ant", "train/cat/1.png": "cat", "test/cat/1.png": "cat"}
    assert found.unreadable == {"train/dog": "Permission denied", "test/dog/old": "Permission denied"}
    closed |= {str(tmp_path / name) for name in ("train/ant", "train/cat", "test/cat", "test/dog")}
    with pytest.raises(
        UserError,
        match=r"no image found in .*; unreadable folders left out: test/cat/: Permission denied, .* and 1 more",
    ):
        source(tmp_path)
    closed.add(str(tmp_path))
    with pytest.raises(UserError, match=r"^prepare.folder.path: .* cannot be read: Permission denied$"):
        source(tmp_path)


@pytest.mark.skipif(reads_everything(), reason="rights do not hold here")
def test_a_folder_whose_files_may_be_listed_and_no_more(tmp_path):
    make(tmp_path, "cat/1.png", "cat/2")
    (tmp_path / "cat").chmod(0o444)
    try:
        found = source(tmp_path / "cat")
    finally:
        (tmp_path / "cat").chmod(0o700)
    assert labels(found) == {"1.png": None}
    assert found.ignored == {"without suffix": 1}


def test_missing_wrong_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match=r"folder.path: .* does not exist"):
        source(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        source(tmp_path / "file")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no image found in .*empty; folders without images left out: cat/$"):
        source(tmp_path / "empty")
    (tmp_path / "empty" / "cat" / "a.pdf").touch()
    with pytest.raises(UserError, match=r"other files left out: 1 \.pdf$"):
        source(tmp_path / "empty")
    for i in range(9):
        (tmp_path / "empty" / f"b.\n{i}").touch()
    with pytest.raises(UserError, match=r"other files left out: 1 '.\\n0', 1 '.\\n1'.* and 6 more$") as raised:
        source(tmp_path / "empty")
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        source("x" * 5000)
    with pytest.raises(UserError, match="~unknown-user does not exist"):
        source("~unknown-user")
