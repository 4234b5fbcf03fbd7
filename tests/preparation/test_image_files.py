import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sslpipe.io.errors import UserError
from sslpipe.io.text import shown
from sslpipe.preparation.image_files import contents, find_images, natural

sys.path.insert(0, str(Path(__file__).parents[1]))
from hostile import reads_everything


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no image")


def find(top, **options):
    return find_images(top, where="key", **options)


def test_names_are_in_natural_order_a_folders_own_files_first(tmp_path):
    make(tmp_path, "b/10.png", "b/9.png", "b/a/1.png", "a10/1.png", "a9/1.png", "z.png", "y 2.png", "y 10.png")
    found = find(tmp_path)
    assert found.images == [
        "y 2.png",
        "y 10.png",
        "z.png",
        "a9/1.png",
        "a10/1.png",
        "b/9.png",
        "b/10.png",
        "b/a/1.png",
    ]
    assert not found.ignored
    assert not found.unreadable


TREE = st.recursive(
    st.just(None), lambda below: st.dictionaries(st.sampled_from("ab1"), below, max_size=3), max_leaves=9
)


@given(TREE)
def test_the_same_files_as_a_plain_walk(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree")

    def build(folder, tree):
        for name, below in (tree or {}).items():
            if below is None:
                (folder / f"{name}.png").touch()
            else:
                (folder / name).mkdir()
                build(folder / name, below)

    build(root, tree)
    expected = {os.path.relpath(os.path.join(d, f), root) for d, _, files in os.walk(root) for f in files}
    found = find(root).images
    assert len(found) == len(expected)
    assert set(found) == expected


def test_files_with_a_known_suffix_are_not_opened(tmp_path, monkeypatch):
    make(tmp_path, "a.png", "b.JPG", "c.tif")
    Image.new("L", (2, 2)).save(tmp_path / "d", format="PNG")
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **options: opened.append(path) or original(path, **options))
    assert find(tmp_path).images == ["a.png", "b.JPG", "c.tif", "d"]
    assert opened == [tmp_path / "d"]


def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("pipe.png")
    os.mkfifo("pipe")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "device.raw").symlink_to("/dev/zero")
    (tmp_path / "linked.png").symlink_to("pipe")
    (tmp_path / "nowhere").symlink_to("none")
    (tmp_path / "nowhere.png").symlink_to("none")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "self.png").symlink_to("self.png")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("socket.png")
        found = find(tmp_path)
    assert found.images == ["device.png", "linked.png", "nowhere.png", "pipe.png", "self.png", "socket.png"]
    assert found.ignored == {"without suffix": 3, ".raw": 1}
    assert found.unreadable == {}


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path):
    make(tmp_path, "top/a/1.png", "elsewhere/2.png", "beside.png", "held/3.png")
    top = tmp_path / "top"
    for name, target in [("b", "elsewhere"), ("c", "elsewhere"), ("a/up", "top"), ("a/above", ""), ("d", "held")]:
        (top / name).symlink_to(tmp_path / target)
    assert find(top).images == ["a/1.png", "b/2.png", "d/3.png"]
    assert find(top, outside=(tmp_path / "held",)).images == ["a/1.png", "b/2.png"]


def test_a_folder_with_an_images_name_is_a_folder(tmp_path):
    make(tmp_path, "x.jpg/1.png", "y.jpg/notes.txt")
    found = find(tmp_path)
    assert found.images == ["x.jpg/1.png"]
    assert found.ignored == {".txt": 1}


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    make(tmp_path, "file")
    (tmp_path / "loop").symlink_to("loop")
    reasons = {"none": "does not exist", "file": "is not a folder", "loop": "cannot be read: Too many levels"}
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=f"^key: .*{name} {reason}"):
            find(tmp_path / name)


def test_hidden_folders_and_images_are_told(tmp_path):
    make(tmp_path, ".net/1.png", ".git/config", "a/.2.png", "a/.DS_Store", "a/3.png")
    found = find(tmp_path)
    assert found.images == ["a/3.png"]
    assert found.notes() == ["hidden folders and images left out: .git/, .net/, a/.2.png"]


def test_files_to_skip_are_not_counted(tmp_path):
    make(tmp_path, "a.png", "labels.csv", "other.csv")
    assert find(tmp_path, skip=(tmp_path / "labels.csv",)).ignored == {".csv": 1}


def test_folders_that_cannot_be_read_are_told_and_the_rest_found(tmp_path, monkeypatch):
    make(tmp_path, "a/1.png", "b/2.png", "b/c/3.png", "b/gone/4.png", "d/5.png")
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(tmp_path / "b/c"):
            raise PermissionError(13, "Permission denied")
        if str(path) == str(tmp_path / "b/gone"):
            raise FileNotFoundError(2, "No such file or directory")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find(tmp_path)
    assert found.images == ["a/1.png", "b/2.png", "d/5.png"]
    assert found.unreadable == {"b/c": "Permission denied", "b/gone": "No such file or directory"}
    with pytest.raises(UserError, match=r"^key: .*/b/c cannot be read: Permission denied$"):
        find(tmp_path / "b/c")
    with pytest.raises(UserError, match=r"^key: .*/b/c cannot be read: Permission denied$"):
        contents(tmp_path / "b/c", where="key")


@pytest.mark.skipif(reads_everything(), reason="rights do not hold here")
def test_folders_that_may_not_be_read(tmp_path):
    make(tmp_path, "open/1.png", "closed/2.png", "listed/below/3.png", "listed/4.png", "hidden/5/6.png")
    (tmp_path / "link").symlink_to(tmp_path / "hidden/5")
    (tmp_path / "link.png").symlink_to(tmp_path / "hidden/5/6.png")
    rights = {"closed": 0o000, "listed": 0o444, "hidden": 0o000}
    for name, mode in rights.items():
        (tmp_path / name).chmod(mode)
    try:
        found = find(tmp_path)
    finally:
        for name in rights:
            (tmp_path / name).chmod(0o700)
    assert found.images == ["link.png", "listed/4.png", "open/1.png"]
    assert found.unreadable == dict.fromkeys(["link", "closed", "hidden", "listed/below"], "Permission denied")


def test_folders_below_the_longest_path(tmp_path):
    name = "d" * 250
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(18):  # 4,500 characters: no path leads there, only one folder after the other
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(os.open("1.png", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(folder)
        folder = below
    os.close(folder)
    found = find(tmp_path)
    assert 14 <= len(found.images) <= 16
    assert list(found.unreadable.values()) == ["File name too long"]
    shutil.rmtree(tmp_path / name)


def test_contents(tmp_path):
    make(tmp_path, "b10/x", "b9/x", "10.txt", "9.txt", ".hidden/x", ".x")
    (tmp_path / "link").symlink_to("b9")
    (tmp_path / "self").symlink_to("self")
    assert contents(tmp_path, where="key") == (["b9", "b10", "link"], ["9.txt", "10.txt", "self"])


@given(st.lists(st.text("a0129", max_size=8)))
def test_natural_order_is_that_of_the_numbers(names):
    def plain(name):
        pieces = re.split("([0-9]+)", name)
        return [(int(piece), "") if i % 2 else (0, piece) for i, piece in enumerate(pieces)], name

    assert sorted(names, key=natural) == sorted(names, key=plain)


@pytest.mark.parametrize(
    ("name", "text"), [("a b.png", "a b.png"), ("猫", "猫"), ("a\nb", "'a\\nb'"), ("\udce9", "'\\udce9'")]
)
def test_shown(name, text):
    assert shown(name) == text
