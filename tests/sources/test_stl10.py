import numpy as np
import published
import pytest
from torchvision.datasets import STL10

from sslpipe.data.store import UNKNOWN, Store
from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.preparation.store_writer import Settings as Prepare
from sslpipe.preparation.store_writer import write_store
from sslpipe.sources.stl10 import Settings, Source


def test_images_labels_and_names_are_those_of_the_files_and_of_torchvision(tmp_path, monkeypatch):
    images, labels, _ = published.stl10(tmp_path, monkeypatch)
    source = Source(Settings(root=str(tmp_path)))
    assert source.classes == tuple(published.STL10_NAMES)
    assert [entry.label for entry in source.entries] == [*labels[:10], *[UNKNOWN] * 6, *labels[10:]]
    assert [entry.part for entry in source.entries] == ["train"] * 16 + ["test"] * 4
    assert [source.entries[i].name for i in (9, 10, 16)] == ["stl10:train/9", "stl10:unlabeled/0", "stl10:test/0"]
    expected = [*images["train"], *images["unlabeled"], *images["test"]]
    theirs = [*STL10(tmp_path, "train+unlabeled"), *STL10(tmp_path, "test")]
    assert len(expected) == len(theirs) == len(source.entries)
    for i, (image, label) in enumerate(theirs):
        assert source.load(i).shape == (96, 96, 3)
        np.testing.assert_array_equal(source.load(i), expected[i])
        np.testing.assert_array_equal(source.load(i), np.asarray(image))
        assert source.entries[i].label == label


def test_images_stay_on_the_disk(tmp_path, monkeypatch):
    published.stl10(tmp_path, monkeypatch)
    source = Source(Settings(root=str(tmp_path)))
    assert all(isinstance(images, np.memmap) for images in source._images)
    assert type(source.load(12)) is np.ndarray


def test_without_the_unlabelled_images_their_file_need_not_be_there(tmp_path, monkeypatch):
    images, labels, _ = published.stl10(tmp_path, monkeypatch)
    (tmp_path / "stl10_binary/unlabeled_X.bin").unlink()
    source = Source(Settings(root=str(tmp_path), unlabelled=False))
    assert [entry.label for entry in source.entries] == labels
    np.testing.assert_array_equal(source.load(10), images["test"][0])
    with pytest.raises(UserError, match=r"unlabeled_X.bin does not exist; prepare.stl10.download: true fetches 2.6 GB"):
        Source(Settings(root=str(tmp_path)))


@pytest.mark.parametrize("fold", [0, 4, 9])
def test_only_a_folds_images_keep_their_label(tmp_path, monkeypatch, fold):
    _, labels, folds = published.stl10(tmp_path, monkeypatch)
    source = Source(Settings(root=str(tmp_path), fold=fold))
    kept = [label if i in folds[fold] else UNKNOWN for i, label in enumerate(labels[:10])]
    assert [entry.label for entry in source.entries] == [*kept, *[UNKNOWN] * 6, *labels[10:]]
    theirs = STL10(tmp_path, "train", folds=fold)
    chosen = [i for i in range(10) if source.entries[i].label != UNKNOWN]
    assert [source.entries[i].label for i in chosen] == theirs.labels.tolist()
    for i, (image, _) in zip(chosen, theirs, strict=True):
        np.testing.assert_array_equal(source.load(i), np.asarray(image))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line of integers found for fold 1"),
        ("0 1\n", "no line of integers found for fold 1"),
        ("0 1\n2 x\n", "no line of integers found for fold 1"),
        ("0 1\n\n", "line 2: expected indices of images"),
        ("0 1\n2 10\n", "line 2: expected indices of images, each at least 0 and below 10"),
        ("0 1\n-1 2\n", "line 2: expected indices of images"),
    ],
)
def test_bad_folds(tmp_path, monkeypatch, text, message):
    published.stl10(tmp_path, monkeypatch)
    path = tmp_path / "stl10_binary/fold_indices.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        Source(Settings(root=str(tmp_path), fold=1))
    assert str(path) in str(raised.value)
    path.unlink()
    assert Source(Settings(root=str(tmp_path))).entries
    with pytest.raises(UserError, match=r"fold_indices.txt does not exist"):
        Source(Settings(root=str(tmp_path), fold=1))


@pytest.mark.parametrize("content", [b"", b"airplane\nbird\n", b"\xff\xfe\n" * 9])
def test_bad_class_names(tmp_path, monkeypatch, content):
    published.stl10(tmp_path, monkeypatch)
    (tmp_path / "stl10_binary/class_names.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"class_names.txt: \d class names found, expected 10"):
        Source(Settings(root=str(tmp_path)))


@pytest.mark.parametrize("name", ["train_X.bin", "train_y.bin", "unlabeled_X.bin", "test_X.bin", "test_y.bin"])
def test_a_changed_file_is_named(tmp_path, monkeypatch, name):
    published.stl10(tmp_path, monkeypatch)
    published.damage(tmp_path / "stl10_binary" / name)
    with pytest.raises(UserError, match=f"{name} is truncated or changed"):
        Source(Settings(root=str(tmp_path)))


def test_offline(tmp_path, offline):
    with pytest.raises(
        UserError, match=r"no connection to ai.stanford.edu .*fetch http://ai.stanford.edu/.* elsewhere"
    ):
        Source(Settings(root=str(tmp_path), download=True))


def test_settings_are_checked():
    with pytest.raises(UserError, match=r"stl10.fold: 10 is out of range, expected at least 0 and at most 9"):
        parse(Settings, {"fold": 10}, where="prepare.stl10")
    assert parse(Settings, {"fold": None}, where="prepare.stl10") == Settings()


def test_the_store_has_the_unlabelled_images_among_the_training_images(tmp_path, monkeypatch):
    images, labels, folds = published.stl10(tmp_path, monkeypatch)
    source = Source(Settings(root=str(tmp_path), fold=2))
    settings = Prepare(source="stl10", size=96, channels=3, held_out=0.0)
    write_store(tmp_path / "out", source, settings, protocol="split", seed=0, workers=2, strict=True)
    store = Store(tmp_path / "out")
    assert (store.info.train, store.info.held_out, store.info.test) == (16, 0, 4)
    np.testing.assert_array_equal(store.images("train")[10:], images["unlabeled"].transpose(0, 3, 1, 2))
    index, label = store.labelled()
    assert index.tolist() == folds[2]
    assert label.tolist() == [labels[i] for i in folds[2]]
