"""Images that remain in their files until they are indexed."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.data import images as module
from sslpipe.data.images import Images
from sslpipe.data.unread_images import ChosenImages, JoinedImages

CPU = torch.device("cpu")


@pytest.fixture
def splits(tmp_path):
    """Two splits in memory-mapped files, of 3 MB and 1 MB."""
    random = np.random.default_rng(0)
    for name, count in [("train", 1000), ("held_out", 333)]:
        np.save(tmp_path / f"{name}.npy", random.integers(256, size=(count, 3, 32, 32), dtype=np.uint8))
    return [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("train", "held_out")]


@given(st.lists(st.integers(0, 11), max_size=20))
def test_joined_images_are_those_of_one_array(index):
    parts = [
        np.arange(7 * 4, dtype=np.uint8).reshape(7, 1, 2, 2),
        np.arange(90, 110, dtype=np.uint8).reshape(5, 1, 2, 2),
    ]
    joined, index = JoinedImages(parts), np.array(index, dtype=np.int64)
    assert (len(joined), joined.shape, joined.nbytes) == (12, (12, 1, 2, 2), 48)
    np.testing.assert_array_equal(joined[index], np.concatenate(parts)[index])


def test_chosen_images_are_those_of_the_file(splits):
    chosen = np.array([5, 2, 900])
    images = ChosenImages(splits[0], chosen)
    assert (len(images), images.shape, images.nbytes) == (3, (3, 3, 32, 32), 3 * 3072)
    np.testing.assert_array_equal(images[np.array([2, 0])], splits[0][[900, 5]])


@pytest.mark.parametrize("fits", [True, False])
def test_a_batch_of_joined_images_is_that_of_both_splits(splits, monkeypatch, fits):
    monkeypatch.setattr(module, "fits", lambda size, device, free: fits)
    index = torch.tensor([1332, 3, 1000])
    np.testing.assert_array_equal(Images(JoinedImages(splits), CPU)[index].numpy(), np.concatenate(splits)[index])


def test_images_in_memory_are_not_copied_once_more(monkeypatch):
    monkeypatch.setattr(module, "fits", lambda size, device, free: True)
    array = np.zeros((500, 3, 32, 32), np.uint8)
    tracemalloc.start()
    Images(array, CPU)[torch.tensor([0])]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 10
