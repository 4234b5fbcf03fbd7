"""The list of files by which DVC knows whether prepare has to run again."""

import csv
import os

import pytest
from PIL import Image

from sslpipe.io.errors import UserError
from sslpipe.preparation.listing import write_listing


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    for name in ("cat/2.png", "cat/10.png", "1.png"):
        Image.new("L", (2, 2)).save(folder / name)
        os.utime(folder / name, ns=(0, 1_700_000_000_123_456_789))
    return folder


def listing(photos, *others):
    out = photos.parent / "files.csv"
    write_listing(out, photos, others, where="prepare.folder.path")
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_row_has_name_size_and_time(photos):
    size = str((photos / "1.png").stat().st_size)
    rows = [[name, size, "1700000000123456789"] for name in ("1.png", "cat/2.png", "cat/10.png")]
    assert listing(photos) == [["file", "bytes", "modified"], *rows]


def test_what_is_changed_added_or_removed_changes_the_list_and_nothing_else_does(photos):
    before = listing(photos)
    (photos / "notes.txt").write_text("not an image")
    assert listing(photos) == before
    os.utime(photos / "1.png", ns=(0, 1))
    changed = listing(photos)
    (photos / "cat" / "2.png").unlink()
    fewer = listing(photos)
    (photos / "labels.csv").write_text("file,label\n1.png,cat\n")
    labelled = listing(photos, photos / "labels.csv")
    assert len({str(rows) for rows in (before, changed, fewer, labelled)}) == 4


def test_what_dvc_refuses_to_hash_is_listed(photos):
    (photos / "broken.png").symlink_to(photos / "nowhere")
    (photos / "loop.png").symlink_to(photos / "loop.png")
    (photos / "up").symlink_to(photos)
    os.mkfifo(photos / "pipe.png")
    Image.new("L", (2, 2)).save(os.fsencode(photos) + b"/\xff.png")
    rows = listing(photos)
    assert ["broken.png", "", ""] in rows
    assert ["loop.png", "", ""] in rows
    assert [row[0] for row in rows[1:]] == [
        "1.png", "broken.png", "loop.png", "pipe.png", "\\udcff.png", "cat/2.png", "cat/10.png"
    ]  # fmt: skip


def test_labels_files_have_their_path_in_the_folder_or_their_name(photos, tmp_path):
    for path in (photos / "cat" / "labels.csv", tmp_path / "more.csv"):
        path.write_text("file,label\n")
    rows = listing(photos, photos / "cat" / "labels.csv", tmp_path / "more.csv")
    assert [row[0] for row in rows[-2:]] == ["cat/labels.csv", "more.csv"]


def test_a_folder_that_cannot_be_read_is_one_line(photos, monkeypatch):
    monkeypatch.setattr(os, "scandir", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(UserError, match=r"^prepare.folder.path: .* cannot be read: Permission denied$"):
        write_listing(photos.parent / "files.csv", photos, [], where="prepare.folder.path")
