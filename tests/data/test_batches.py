"""Batches without labels: what they hold, which numbers they draw, and what they read."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sslpipe.data import world
from sslpipe.data.batches import Batches, LabelledBatches, Needs, PairedBatches
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.data.seeds import RandomStream, mix, seed_of_step

CPU = torch.device("cpu")
CANDIDATES = torch.randint(40, (40, 5), generator=torch.Generator().manual_seed(1))


def numbered(count=40):
    """Image n has the pixel value n."""
    return Images(np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1), CPU)


def one_of_five(index, generator):
    choice = torch.randint(5, (len(index), 1), generator=generator)
    return CANDIDATES[index].gather(1, choice)[:, 0]


def generator_of(step, seed=3):
    return torch.Generator().manual_seed(mix(seed, RandomStream.STEP_GENERATOR, step))


def values(image):
    return image.flatten().tolist()


def test_an_epoch_has_each_image_once_in_an_order_of_its_own():
    batches = Batches(numbered(), 8, seed=3)
    epochs = [[n for step in range(5) for n in values(batches.at(5 * epoch + step).image)] for epoch in (0, 1)]
    for epoch, found in enumerate(epochs):
        generator = torch.Generator().manual_seed(mix(3, RandomStream.EPOCH_ORDER, epoch))
        assert found == torch.randperm(40, generator=generator).tolist()
    batch = batches.at(7)
    assert (values(batch.image), len(batch)) == (batch.index.tolist(), 8)
    assert (batch.neighbor, batch.neighbor_image) == (None, None)


def test_neighbours_are_drawn_first_from_the_generator_of_the_step():
    batches = Batches(numbered(), 8, seed=3, needs=Needs(neighbors=one_of_five))
    for step in (0, 4, 5, 2):
        given, written_out = generator_of(step), generator_of(step)
        batch, alone = batches.at(step, given), batches.at(step)
        assert batch.neighbor.tolist() == one_of_five(batch.index, written_out).tolist() == alone.neighbor.tolist()
        assert torch.equal(given.get_state(), written_out.get_state())
        assert values(batch.neighbor_image) == values(alone.neighbor_image) == batch.neighbor.tolist()
        assert values(batch.image) == batch.index.tolist() == Batches(numbered(), 8, seed=3).at(step).index.tolist()
        assert batch.image.shape == batch.neighbor_image.shape == (8, 1, 1, 1)
    assert seed_of_step(3, 4) == generator_of(4).initial_seed()


def test_a_step_that_needs_no_images_reads_none(monkeypatch):
    images = numbered()
    needs = Needs(images=lambda step: step >= 3, neighbors=one_of_five)
    everything, batches = Batches(images, 8, seed=3, needs=replace(needs, images=lambda step: True)), None
    expected = everything.at(2)
    batches = Batches(numbered(), 8, seed=3, needs=needs)
    monkeypatch.setattr(Images, "__getitem__", lambda self, index: pytest.fail("images are read"))
    batch = batches.at(2)
    assert (batch.image.shape, batch.neighbor_image.shape, len(batch)) == ((0, 1, 1, 1), (0, 1, 1, 1), 8)
    assert batch.image.dtype == torch.uint8
    assert (batch.index.tolist(), batch.neighbor.tolist()) == (expected.index.tolist(), expected.neighbor.tolist())
    monkeypatch.undo()
    assert values(batches.at(3).image) == batches.at(3).index.tolist()


@pytest.mark.parametrize("needs", [Needs(), Needs(neighbors=one_of_five)])
def test_each_process_gets_its_rows_of_all_batches(monkeypatch, needs):
    index = torch.arange(1, 40, 2)
    labelled = LabelledImages(numbered(), index, index % 3, ("a", "b", "c"))
    pairs = PairedBatches(Batches(numbered(), 8, seed=3, needs=needs), LabelledBatches(labelled, 6, seed=3))
    whole = pairs.at(9, generator_of(9))
    monkeypatch.setattr(world, "_sharing", True)
    monkeypatch.setattr(world, "size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(world, "rank", lambda rank=rank: rank)
        own = pairs.at(9, generator_of(9))
        for part, all_of_it in ((own.unlabelled, whole.unlabelled), (own.labelled, whole.labelled)):
            assert part.index.tolist() == all_of_it.index.tolist()
            assert values(part.image) == values(all_of_it.image)[rank::2]
        if needs.neighbors:
            assert own.unlabelled.neighbor.tolist() == whole.unlabelled.neighbor.tolist()
            assert values(own.unlabelled.neighbor_image) == values(whole.unlabelled.neighbor_image)[rank::2]
