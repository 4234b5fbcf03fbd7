import csv
import errno
import os

import pytest

from sslpipe.io.errors import UserError
from sslpipe.tools.sorting import Predicted, check_folder, folder_names, read_predictions, review, sort_into


@pytest.fixture
def images(tmp_path):
    """Four images, of which three have names that are alike."""
    paths = [tmp_path / "in" / name for name in ("a/1.png", "b/1.png", "c/1.PNG", "a/2.png")]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i]))
    return paths


def predicted(images, names=("cat", "cat", "cat", "dog")):
    return [Predicted(path, name, 0.1 * i) for i, (path, name) in enumerate(zip(images, names, strict=True))]


def found(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("link", [False, True])
def test_every_image_is_in_its_folder_and_none_replaces_another(images, tmp_path, link, capsys):
    sort_into(tmp_path / "sorted", predicted(images), link=link)
    assert found(tmp_path / "sorted") == {
        "cat/1.png": b"\0",
        "cat/1 (2).png": b"\1",
        "cat/1 (3).PNG": b"\2",
        "dog/2.png": b"\3",
    }
    assert (tmp_path / "sorted/cat/1.png").is_symlink() == link
    verb = "linked" if link else "copied"
    assert capsys.readouterr().out == f"{tmp_path / 'sorted'}: 4 images {verb} into 2 folders\n"
    assert all(path.exists() for path in images)


def test_a_folder_with_content_is_refused(images, tmp_path):
    (tmp_path / "sorted").mkdir()
    check_folder(tmp_path / "sorted")
    (tmp_path / "sorted/note.txt").touch()
    with pytest.raises(UserError, match=r"sorted is not empty; name a new folder"):
        sort_into(tmp_path / "sorted", predicted(images), link=False)
    with pytest.raises(UserError, match=r"1\.png is a file; name a folder"):
        check_folder(images[0])
    with pytest.raises(UserError, match=r"new is inside of .*, expected a folder outside"):
        check_folder(tmp_path / "in/a/new", [tmp_path / "in"])
    assert os.listdir(tmp_path / "sorted") == ["note.txt"]


def test_nothing_is_left_if_an_image_has_gone(images, tmp_path):
    images[2].unlink()
    with pytest.raises(UserError, match=r"1\.PNG: cannot be read: No such file"):
        sort_into(tmp_path / "sorted", predicted(images), link=False)
    assert not (tmp_path / "sorted").exists()


def test_unusable_names_are_replaced_and_said(images, tmp_path, capsys):
    names = ("a/b", "a:b", "..", "Cat")
    sort_into(tmp_path / "sorted", predicted(images, names), link=False)
    assert set(os.listdir(tmp_path / "sorted")) == {"a_b", "a_b (2)", "_", "Cat"}
    out = capsys.readouterr().out
    assert "3 folders with another name: a/b → a_b, a:b → a_b (2), .. → _" in out


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["", " ", "."], ["_", "_ (2)", "_ (3)"]),
        (["cat", "CAT"], ["cat", "CAT (2)"]),
        (["CON", "nul.txt", "console"], ["_CON", "_nul.txt", "console"]),
        (["x\ny\u2028z"], ["x_y_z"]),
        (["ü" * 300], ["ü" * 100]),
        (["../../etc"], ["_.._etc"]),
    ],
)
def test_names_of_folders(names, expected):
    assert list(folder_names(names).values()) == expected


def test_the_least_confident_are_listed(images, tmp_path, capsys):
    review(predicted(images), 0.25, tmp_path / "p.csv")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 of 4 images with a confidence below 0.25"
    assert lines[1:] == [f"  {0.1 * i:.4f}  cat  {images[i]}" for i in range(3)]
    review(predicted(images) * 10, 0.25, tmp_path / "p.csv")
    assert (
        capsys.readouterr().out.splitlines()[-1] == f"  and 10 more: sort {tmp_path / 'p.csv'} by its column confidence"
    )


@pytest.mark.parametrize("column", ["file_name", "file"])  # the latter up to version 0.4.0
def test_broken_images_have_no_place(images, tmp_path, column):
    table = tmp_path / "p.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([column, "prediction", "confidence", "error"])
        writer.writerows([[path, "cat", "0.5", ""] for path in images[:3]])
        writer.writerow([images[3], "", "", "truncated"])
    assert [each.path for each in read_predictions(table, images)] == images[:3]


def test_a_full_disk_is_one_line_and_leaves_nothing(images, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(UserError, match=r"sorted/cat/1\.png: cannot be written: No space left on device"):
        sort_into(tmp_path / "sorted", predicted(images), link=False)
    assert not (tmp_path / "sorted").exists()
