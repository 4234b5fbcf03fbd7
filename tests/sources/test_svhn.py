import numpy as np
import published
import pytest
from torchvision.datasets import SVHN

from sslpipe.io.errors import UserError
from sslpipe.sources.svhn import Settings, Source


@pytest.mark.parametrize("splits", [["train", "test"], ["train", "extra", "test"]])
def test_images_labels_and_names_are_those_of_the_files_and_of_torchvision(tmp_path, monkeypatch, splits):
    images, digits = published.svhn(tmp_path, monkeypatch, train=12, test=5, extra=7)
    source = Source(Settings(root=str(tmp_path), extra="extra" in splits))
    assert source.classes == tuple("0123456789")
    assert [entry.label for entry in source.entries] == [digit for split in splits for digit in digits[split]]
    names = [f"svhn:{split}/{i}" for split in splits for i in range(len(digits[split]))]
    assert [entry.name for entry in source.entries] == names
    assert [entry.part == "test" for entry in source.entries] == ["test/" in name for name in names]
    theirs = [item for split in splits for item in SVHN(tmp_path, split)]
    expected = [image for split in splits for image in images[split]]
    for i, (image, label) in enumerate(theirs):
        np.testing.assert_array_equal(source.load(i), expected[i])
        np.testing.assert_array_equal(source.load(i), np.asarray(image))
        assert source.entries[i].label == label
    assert len(theirs) == len(source.entries)


def test_the_file_counts_zero_as_ten(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "RNG", np.random.default_rng(0))
    _, digits = published.svhn(tmp_path, monkeypatch, train=40, test=5)
    assert 0 in digits["train"]
    assert {entry.label for entry in Source(Settings(root=str(tmp_path))).entries} <= set(range(10))


@pytest.mark.parametrize(("split", "size"), [("train", "182 MB"), ("test", "64 MB"), ("extra", "1.3 GB")])
def test_missing_files(tmp_path, monkeypatch, split, size):
    published.svhn(tmp_path, monkeypatch, train=3, test=3, extra=3)
    (tmp_path / f"{split}_32x32.mat").unlink()
    with pytest.raises(UserError) as raised:
        Source(Settings(root=str(tmp_path), extra=True))
    assert str(raised.value) == (
        f"prepare.svhn.root: {tmp_path / split}_32x32.mat does not exist; prepare.svhn.download: true fetches {size} "
        "from ufldl.stanford.edu"
    )
    if split == "extra":
        assert len(Source(Settings(root=str(tmp_path))).entries) == 6


def test_a_changed_file_is_named(tmp_path, monkeypatch):
    published.svhn(tmp_path, monkeypatch, train=3, test=3)
    published.damage(tmp_path / "test_32x32.mat")
    with pytest.raises(UserError, match=r"test_32x32.mat is truncated or changed: md5 \w{32} found, expected \w{32}"):
        Source(Settings(root=str(tmp_path)))


def test_offline(tmp_path, offline):
    with pytest.raises(UserError) as raised:
        Source(Settings(root=str(tmp_path), download=True))
    assert str(raised.value) == (
        "prepare.svhn.download: no connection to ufldl.stanford.edu (Name or service not known); fetch "
        f"http://ufldl.stanford.edu/housenumbers/train_32x32.mat elsewhere and put it in {tmp_path}"
    )
