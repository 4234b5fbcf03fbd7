import json

import numpy as np
import published
import pytest
from torchvision.datasets import CIFAR10

from sslpipe.data.store import SPLITS, Store
from sslpipe.io.errors import UserError
from sslpipe.sources.cifar10 import Settings, Source
from stages.prepare import prepare


def test_images_labels_and_names_are_those_of_the_files_and_of_torchvision(tmp_path, monkeypatch):
    train, test, labels = published.cifar10(tmp_path, monkeypatch)
    source = Source(Settings(root=str(tmp_path)))
    assert source.classes == tuple(published.CIFAR10_NAMES)
    assert [entry.label for entry in source.entries] == labels
    assert [entry.part for entry in source.entries] == ["train"] * 20 + ["test"] * 4
    assert [source.entries[i].name for i in (0, 19, 20)] == ["cifar10:train/0", "cifar10:train/19", "cifar10:test/0"]
    theirs = [*CIFAR10(tmp_path, train=True), *CIFAR10(tmp_path, train=False)]
    for i, (expected, (image, label)) in enumerate(zip([*train, *test], theirs, strict=True)):
        np.testing.assert_array_equal(source.load(i), expected)
        np.testing.assert_array_equal(source.load(i), np.asarray(image))
        assert source.entries[i].label == label
    assert source.load(3).dtype == np.uint8
    assert source.load(3).flags.c_contiguous


def test_no_second_copy_of_the_images_is_held(tmp_path, monkeypatch):
    published.cifar10(tmp_path, monkeypatch)
    source = Source(Settings(root=str(tmp_path)))
    assert all(not images.flags.owndata for images in source._images)


@pytest.mark.parametrize("missing", ["batches.meta", "data_batch_3", "test_batch", None])
def test_missing_files(tmp_path, monkeypatch, missing):
    root = tmp_path / "data"
    if missing:
        published.cifar10(root, monkeypatch)
        (root / "cifar-10-batches-py" / missing).unlink()
        found = f"{root}/cifar-10-batches-py/{missing} does not exist"
    else:
        found = f"{root} does not exist, expected cifar-10-batches-py/data_batch_1 in it"
    with pytest.raises(UserError) as raised:
        Source(Settings(root=str(root)))
    assert str(raised.value) == (
        f"prepare.cifar10.root: {found}; prepare.cifar10.download: true fetches 170 MB from www.cs.toronto.edu"
    )


@pytest.mark.parametrize("name", ["batches.meta", "data_batch_5", "test_batch"])
def test_a_changed_file_is_named_and_not_unpickled(tmp_path, monkeypatch, name):
    published.cifar10(tmp_path, monkeypatch)
    published.damage(tmp_path / "cifar-10-batches-py" / name)
    monkeypatch.setattr("pickle.load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(UserError, match=f"{name} is truncated or changed: md5 .* found, expected .*download: true"):
        Source(Settings(root=str(tmp_path)))


def test_offline(tmp_path, offline):
    with pytest.raises(UserError) as raised:
        Source(Settings(root=str(tmp_path / "data"), download=True))
    assert str(raised.value) == (
        "prepare.cifar10.download: no connection to www.cs.toronto.edu (Name or service not known); fetch "
        f"https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz elsewhere and put it in {tmp_path / 'data'} "
        "(prepare.cifar10.download: true then unpacks it)"
    )


def test_prepare(tmp_path, monkeypatch):
    train, test, labels = published.cifar10(tmp_path / "data", monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("prepare: {source: cifar10, size: 32, channels: 3, held_out: 0.2}")
    prepare()
    store = Store(tmp_path / "runs/prepare")
    assert [store.info.count(split) for split in SPLITS] == [16, 4, 4]
    assert store.classes == tuple(published.CIFAR10_NAMES)
    np.testing.assert_array_equal(store.images("test"), test.transpose(0, 3, 1, 2))
    assert store.labels("test").tolist() == labels[20:]
    for split in ("train", "held_out"):
        place = [int(name.removeprefix("cifar10:train/")) for name in store.files(split)]
        np.testing.assert_array_equal(store.images(split), train[place].transpose(0, 3, 1, 2))
    report = json.loads((tmp_path / "runs/prepare/report.json").read_text())
    assert report["source"] == {"name": "cifar10", "root": "data", "download": False}
