"""Images of a split: equal batches whether they are kept in memory or not, and only in memory once they are indexed."""

import numpy as np
import pytest
import torch

from sslpipe.data import images as module
from sslpipe.data.images import Images

CPU = torch.device("cpu")


@pytest.fixture
def array(tmp_path):
    """Images in a memory-mapped file."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(256, size=(20, 3, 4, 4), dtype=np.uint8))
    return np.load(tmp_path / "images.npy", mmap_mode="r")


@pytest.mark.parametrize("fits", [True, False])
def test_batches_are_those_of_the_file(array, monkeypatch, fits):
    monkeypatch.setattr(module, "_fits", lambda size, device: fits)
    index = torch.tensor([3, 19, 3, 0])
    images = Images(array, CPU)
    np.testing.assert_array_equal(images[index].numpy(), array[index.numpy()])
    np.testing.assert_array_equal(images.subset(index)[torch.tensor([1])].numpy(), array[[19]])


def test_the_file_is_copied_once_and_not_before_the_first_batch(array, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "_fits", lambda size, device: asked.append(size) or True)
    images = Images(array, CPU)
    few = images.subset(torch.arange(5))
    assert (len(images), len(few), asked) == (20, 5, [])
    few[torch.arange(2)]
    for _ in range(2):
        images[torch.arange(2)]
    assert asked == [5 * 48, 20 * 48]
