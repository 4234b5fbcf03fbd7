import os
import pickle

import numpy as np
import published
import pytest
from torchvision.datasets import CIFAR100

from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.sources.cifar100 import Settings, Source


def test_fine_classes_are_those_of_torchvision(tmp_path, monkeypatch):
    train, test, fine, _ = published.cifar100(tmp_path, monkeypatch)
    source = Source(Settings(root=str(tmp_path)))
    assert source.classes == tuple(f"fine {i}" for i in range(100))
    assert [entry.label for entry in source.entries] == fine
    assert [entry.name for entry in source.entries][8:10] == ["cifar100:train/8", "cifar100:test/0"]
    assert [entry.part for entry in source.entries] == ["train"] * 9 + ["test"] * 5
    theirs = [*CIFAR100(tmp_path, train=True), *CIFAR100(tmp_path, train=False)]
    for i, (expected, (image, label)) in enumerate(zip([*train, *test], theirs, strict=True)):
        np.testing.assert_array_equal(source.load(i), expected)
        np.testing.assert_array_equal(source.load(i), np.asarray(image))
        assert source.entries[i].label == label


def test_coarse_classes_are_of_the_same_images(tmp_path, monkeypatch):
    train, test, _, coarse = published.cifar100(tmp_path, monkeypatch)
    source = Source(Settings(root=str(tmp_path), classes="coarse"))
    assert source.classes == tuple(f"coarse {i}" for i in range(20))
    assert [entry.label for entry in source.entries] == coarse
    for i, expected in enumerate([*train, *test]):
        np.testing.assert_array_equal(source.load(i), expected)


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("classes", ["fine", "coarse"])
@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_what_is_not_the_published_file_is_never_unpickled(tmp_path, monkeypatch, classes, name):
    published.cifar100(tmp_path, monkeypatch)
    path = tmp_path / "cifar-100-python" / name
    path.write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    with pytest.raises(UserError, match=f"cifar-100-python/{name} is truncated or changed"):
        Source(Settings(root=str(tmp_path), classes=classes))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_nor_what_is_put_in_its_place_after_the_check(tmp_path, monkeypatch, name):
    published.cifar100(tmp_path, monkeypatch)
    read = CIFAR100.__init__

    def read_and_replace(self, root, train):
        read(self, root, train=train)
        if not train:  # the last that torchvision reads
            (tmp_path / "cifar-100-python" / name).write_bytes(pickle.dumps(Trap(tmp_path / "trace")))

    monkeypatch.setattr(CIFAR100, "__init__", read_and_replace)
    with pytest.raises(UserError, match=f"cifar-100-python/{name}: not the published file"):
        Source(Settings(root=str(tmp_path), classes="coarse"))
    assert not (tmp_path / "trace").exists()


def test_missing_files_and_no_connection(tmp_path, offline):
    with pytest.raises(UserError, match=r"cifar100.root: .* does not exist, .*download: true fetches 169 MB from www"):
        Source(Settings(root=str(tmp_path / "none")))
    with pytest.raises(UserError, match=r"no connection to www.cs.toronto.edu .*cifar-100-python.tar.gz elsewhere"):
        Source(Settings(root=str(tmp_path / "none"), download=True))


def test_settings_name_their_values():
    with pytest.raises(UserError, match=r"prepare.cifar100.classes: unknown value 'course'; did you mean 'coarse'"):
        parse(Settings, {"classes": "course"}, where="prepare.cifar100")
