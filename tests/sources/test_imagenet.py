import os

import numpy as np
import pytest
from PIL import Image

from sslpipe.data.store import SPLITS, Store
from sslpipe.io.errors import UserError
from sslpipe.sources.imagenet import Settings, Source
from stages.prepare import prepare

WNIDS = ["n01440764", "n01443537", "n01484850", "n02084071"]


@pytest.fixture
def root(tmp_path):
    """Four classes with three training images and one validation image each, of the colour 40 * class."""
    for label, wnid in enumerate(WNIDS):
        names = [*(f"train/{wnid}/{wnid}_{i}.JPEG" for i in (2, 10, 1)), f"val/{wnid}/ILSVRC2012_val_{label:08}.JPEG"]
        for name in names:
            path = tmp_path / "imagenet" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 15), (40 * label,) * 3).save(path, format="JPEG")
    return tmp_path / "imagenet"


def labels(source):
    return {entry.name: (source.classes[entry.label], entry.part) for entry in source.entries}


def test_all_classes(root):
    source = Source(Settings(path=str(root)))
    assert source.classes == tuple(WNIDS)
    expected = {f"train/{wnid}/{wnid}_{i}.JPEG": (wnid, "train") for wnid in WNIDS for i in (1, 2, 10)}
    expected |= {f"val/{wnid}/ILSVRC2012_val_{i:08}.JPEG": (wnid, "test") for i, wnid in enumerate(WNIDS)}
    assert labels(source) == expected
    assert [entry.name for entry in source.entries] == list(expected)
    assert source.load(0) == root / "train/n01440764/n01440764_1.JPEG"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_classes_of_a_list_in_its_order(root, tmp_path, mark):
    text = f"{mark}n02084071 dog, domestic dog\n\n n01440764\ttench, Tinca tinca\r\n"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    source = Source(Settings(path=str(root), classes=str(tmp_path / "list.txt")))
    assert source.classes == ("n02084071", "n01440764")
    assert [entry.label for entry in source.entries] == [0, 0, 0, 1, 1, 1, 0, 1]
    assert all(wnid == name.split("/")[1] for name, (wnid, _) in labels(source).items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no class found in"),
        (b" \n\n", "no class found in"),
        (b"n01440764\nn0144353 goldfish\n", "line 2: n0144353 has no folder in .*train; did you mean 'n01443537'"),
        (b"n01440764\nn01443537\nn01440764 again\n", "line 3: n01440764 is listed twice, first in line 1"),
        (b"../val/n01440764\n", "line 1: ../val/n01440764 has no folder in"),
        (b"n01440764/\n", "line 1: n01440764/ has no folder in"),
        (b"\xff\xfen\x000\x001\x00", "is not UTF-8 text"),
    ],
)
def test_bad_lists(root, tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        Source(Settings(path=str(root), classes=str(tmp_path / "list.txt")))
    assert str(tmp_path / "list.txt") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_lists_that_cannot_be_read(root, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in [("none", "does not exist"), ("pipe", "cannot be read: Is a pipe"), ("", "Is a directory")]:
        with pytest.raises(UserError, match=f"imagenet.classes: .* ?{message}"):
            Source(Settings(path=str(root), classes=str(tmp_path / name)))


def test_a_class_of_one_part_alone(root, tmp_path):
    (root / "val/n01484850").rename(root / "val/n01484851")
    with pytest.raises(UserError, match=r"train: n01484850 has no folder in .*val; did you mean 'n01484851'"):
        Source(Settings(path=str(root)))
    (root / "train/n01484850").rename(tmp_path / "n01484850")
    with pytest.raises(UserError, match=r"val: n01484851 has no folder in .*train"):
        Source(Settings(path=str(root)))
    (tmp_path / "list.txt").write_text("n01440764\n")
    assert len(Source(Settings(path=str(root), classes=str(tmp_path / "list.txt"))).entries) == 4


def test_folders_of_another_kind(root, tmp_path):
    with pytest.raises(UserError, match=r"imagenet.path: .*none does not exist; expected .* with train/<wnid>/"):
        Source(Settings(path=str(tmp_path / "none")))
    (root / "val/n01440764/ILSVRC2012_val_00000000.JPEG").rename(root / "val/ILSVRC2012_val_00000000.JPEG")
    with pytest.raises(UserError, match=r"1 image and 4 folders found in .*val, expected val/<wnid>/ alone"):
        Source(Settings(path=str(root)))
    (root / "val/ILSVRC2012_val_00000000.JPEG").unlink()
    with pytest.raises(UserError, match=r"no image found in .*val/n01440764"):
        Source(Settings(path=str(root)))
    (root / "val").rename(root / "validation")
    with pytest.raises(UserError, match=r"imagenet.path: .*val does not exist"):
        Source(Settings(path=str(root)))


def test_links_and_other_files(root, tmp_path):
    (root / "train/n01440764").rename(tmp_path / "elsewhere")
    (root / "train/n01440764").symlink_to(tmp_path / "elsewhere")
    (root / "train/n01443537/notes.txt").write_text("goldfish")
    (root / "train/n01443537/up").symlink_to(root)
    source = Source(Settings(path=str(root)))
    assert len(source.entries) == 16
    assert source.ignored == {".txt": 1}


def test_prepare(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("n02084071 dog\nn01443537 goldfish\n")
    block = "source: imagenet, size: 8, channels: 3, held_out: 0.0, imagenet: {path: imagenet, classes: list.txt}"
    (tmp_path / "params.yaml").write_text(f"prepare: {{{block}}}")
    (root / "train/n02084071/n02084071_2.JPEG").write_bytes(b"")
    prepare()
    store = Store(tmp_path / "runs/prepare")
    assert [store.info.count(split) for split in SPLITS] == [5, 0, 2]
    assert store.classes == ("n02084071", "n01443537")
    for split in ("train", "test"):
        colour = np.array([120, 40])[store.labels(split)]
        assert np.abs(store.images(split).astype(int) - colour[:, None, None, None]).max() <= 1
    assert [name.split("/")[1] for name in store.files("test")] == ["n02084071", "n01443537"]
