"""Images of a split: equal batches whether they are kept in memory or not, and only in memory once they are indexed."""

import numpy as np
import pytest
import torch

from sslpipe.data import images as module
from sslpipe.data.images import Images
from sslpipe.data.unread_images import ChosenImages, JoinedImages
from sslpipe.nets.inference import infer

CPU = torch.device("cpu")


@pytest.fixture
def array(tmp_path):
    """Images in a memory-mapped file."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(256, size=(20, 3, 4, 4), dtype=np.uint8))
    return np.load(tmp_path / "images.npy", mmap_mode="r")


@pytest.mark.parametrize("fits", [True, False])
def test_batches_are_those_of_the_file(array, monkeypatch, fits):
    monkeypatch.setattr(module, "fits", lambda size, device, free: fits)
    index = torch.tensor([3, 19, 3, 0])
    images = Images(array, CPU)
    np.testing.assert_array_equal(images[index].numpy(), array[index.numpy()])
    np.testing.assert_array_equal(images.subset(index)[torch.tensor([1])].numpy(), array[[19]])


def test_the_file_is_copied_once_and_not_before_the_first_batch(array, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "fits", lambda size, device, free: asked.append(size) or True)
    images = Images(array, CPU)
    few = images.subset(torch.arange(5))
    assert (len(images), len(few), asked) == (20, 5, [])
    few[torch.arange(2)]
    for _ in range(2):
        images[torch.arange(2)]
    assert asked == [20 * 48]


@pytest.mark.parametrize("form", ["mapped", "in memory", "chosen", "joined", "kept"])
def test_a_pass_reads_the_file_and_keeps_nothing(array, monkeypatch, form):
    made = {
        "in memory": lambda: np.array(array),
        "chosen": lambda: ChosenImages(array, np.arange(19, -1, -1)),
        "joined": lambda: JoinedImages([array[:7], array[7:]]),
    }
    images = Images(made.get(form, lambda: array)(), CPU)
    if form == "kept":
        images[torch.tensor([0])]
        monkeypatch.setattr(images, "prefetcher", lambda: pytest.fail("they are read again"))
    elif form != "chosen":
        monkeypatch.setattr(module, "fits", lambda size, device, free: pytest.fail("all are copied"))
    expected = array[::-1] if form == "chosen" else array
    parts = [images.part(start, start + 6) for start in range(0, 20, 6)]
    assert [len(part) for part in parts] == [6, 6, 6, 2]
    np.testing.assert_array_equal(torch.cat(parts).numpy(), expected)
    assert all(part.dtype == torch.uint8 for part in parts)
    # Images that lie scattered are few, and are read once for all passes.
    assert ("resident" in vars(images)) == (form in ("kept", "chosen", "in memory"))


def test_predictions_are_computed_without_a_copy_of_all_images(array, monkeypatch):
    monkeypatch.setattr(module, "fits", lambda size, device, free: pytest.fail("all are copied"))
    found = infer(lambda batch: batch.sum(dim=(1, 2, 3)), Images(array, CPU))
    torch.testing.assert_close(found, torch.from_numpy(array.sum(axis=(1, 2, 3)) / 255).float())
