from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.data.batches import Batches, LabelledBatches, PairedBatches
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages, read_labelled
from sslpipe.data.seeds import RandomStream, mix
from sslpipe.data.store import Store
from sslpipe.decoding.entries import Entry
from sslpipe.io.errors import UserError
from sslpipe.preparation.splits import Labelled
from sslpipe.preparation.store_writer import Settings, write_store
from sslpipe.sources import folder

CPU = torch.device("cpu")
COUNTS = st.integers(1, 12)


class Numbered:
    """Images of 1 x 1 pixel whose value is their number, labelled as told."""

    settings = folder.Settings(path="numbered")
    ignored: dict[str, int] = {}  # noqa: RUF012
    unreadable: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, labels, classes):
        self.entries = tuple(Entry(str(i), label) for i, label in enumerate(labels))
        self.classes = classes

    def load(self, index):
        return np.full((1, 1), index, np.uint8)


def read(root, labels, classes, labelled=None):
    wishes = Settings(size=1, test=0.0, held_out=0.0, labelled=labelled)
    source = Numbered(labels, classes)
    write_store(root, source, wishes, protocol="split", seed=0, workers=1, strict=False)
    store = Store(root)
    return read_labelled(store, Images(store.images("train"), CPU))


def few(count, total=40):
    """`count` labelled images among `total`, of which image n has the pixel value n and the label n % 2."""
    images = Images(np.arange(total, dtype=np.uint8).reshape(total, 1, 1, 1), CPU)
    index = torch.arange(total - 2 * count, total, 2)
    return LabelledImages(images, index, index % 2, ("a", "b"))


def drawn(batches, steps):
    return torch.cat([batches.at(step).index for step in range(steps)]).tolist()


def test_what_a_store_says_is_labelled(tmp_path):
    labelled = read(tmp_path / "out", [i % 3 for i in range(30)], ("a", "b", "c"), Labelled(per_class=2))
    assert (len(labelled), labelled.classes) == (6, 3)
    assert (labelled.index % 3).tolist() == labelled.label.tolist()
    assert labelled.label.bincount().tolist() == [2, 2, 2]
    assert labelled.images[labelled.index].flatten().tolist() == labelled.index.tolist()


def test_hidden_labels_are_not_opened(tmp_path):
    read(tmp_path / "out", [0, 1] * 4, ("a", "b"), Labelled(per_class=1))
    store = Store(tmp_path / "out")
    (tmp_path / "out/train/labels.npy").unlink()
    assert len(read_labelled(store, Images(store.images("train"), CPU))) == 2


@pytest.mark.parametrize(
    ("labels", "classes", "wish", "message"),
    [
        ([-1, -1, -1], (), None, "no image is labelled; label some"),
        ([0, 1, 1], ("ant", "cat"), Labelled(per_class=0), "no image is labelled; .*raise prepare.labelled"),
        ([0, 0, -1], ("ant",), None, "all labels are of one class, 'ant'; label images of another class"),
        ([0, 0, -1], ("ant", "cat"), None, "class 'cat' has no labelled image; label at least one of each class"),
        (
            [1, 1, -1],
            ("a\nb", "cat", "dog"),
            None,
            r"class 'a\\nb' has no labelled image, and 1 more classes have none",
        ),
    ],
)
def test_labels_that_are_too_few(tmp_path, labels, classes, wish, message):
    with pytest.raises(UserError, match=message) as raised:
        read(tmp_path / "runs/prepare", labels, classes, wish)
    assert str(raised.value).startswith(f"{tmp_path / 'runs/prepare/labelled'}: ")
    assert str(raised.value).endswith("run 'sslpipe prepare' again")
    assert "\n" not in str(raised.value)


@given(count=COUNTS, size=st.integers(1, 30), steps=st.integers(1, 12), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_each_image_comes_equally_often_up_to_one(count, size, steps, seed):
    times = Counter(drawn(LabelledBatches(few(count), size, seed=seed), steps))
    often = [times[place] for place in range(count)]
    assert sum(often) == size * steps
    assert max(often) - min(often) <= 1


@given(count=COUNTS, size=st.integers(1, 30), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_batches_are_the_passes_laid_end_to_end(count, size, seed):
    # Written out: the endless list first, then its cuts.
    expected = []
    for number in range(10 * size // count + 1):
        generator = torch.Generator().manual_seed(mix(seed, RandomStream.LABELLED_ORDER, number))
        expected += torch.randperm(count, generator=generator).tolist()
    assert drawn(LabelledBatches(few(count), size, seed=seed), 10) == expected[: 10 * size]


@given(
    count=COUNTS, size=st.integers(1, 30), steps=st.lists(st.integers(0, 10**12), max_size=8), seed=st.integers(0, 99)
)
@settings(deadline=None)
def test_a_step_gives_the_same_batch_whatever_came_before(count, size, steps, seed):
    batches = LabelledBatches(few(count), size, seed=seed)
    for step in steps:
        fresh = LabelledBatches(few(count), size, seed=seed).at(step)
        assert batches.at(step).index.tolist() == fresh.index.tolist()


def test_a_batch_shows_its_images_and_their_labels():
    labelled = few(7)
    labelled.label[3] = 1
    for step in range(5):
        batch = LabelledBatches(labelled, 4, seed=1).at(step)
        assert batch.image.shape == (4, 1, 1, 1)
        assert batch.image.dtype == torch.uint8
        assert batch.image.flatten().tolist() == [int(labelled.index[place]) for place in batch.index]
        assert batch.label.tolist() == [int(place == 3) for place in batch.index]


def test_seeds_and_passes_have_orders_of_their_own():
    orders = [drawn(LabelledBatches(few(12), 36, seed=seed), 1) for seed in range(3)]
    passes = {tuple(order[start : start + 12]) for order in orders for start in (0, 12, 24)}
    assert len(passes) == 9


def test_an_order_is_drawn_once_a_pass(monkeypatch):
    batches, draws = LabelledBatches(few(12), 3, seed=0), []
    draw = LabelledBatches._draw
    monkeypatch.setattr(LabelledBatches, "_draw", lambda self, number: draws.append(number) or draw(self, number))
    drawn(batches, 12)
    batches.at(10**12)
    assert draws == [0, 1, 2, 3 * 10**12 // 12]


def test_pairs_run_at_the_pace_of_the_unlabelled():
    labelled = few(5)
    unlabelled = Batches(labelled.images, 8, seed=2)
    pairs = PairedBatches(unlabelled, LabelledBatches(labelled, 3, seed=2))
    assert (pairs.steps_per_epoch, pairs.device) == (5, CPU)
    assert unlabelled.device == CPU
    for step in (0, 7, 4):
        pair = pairs.at(step)
        assert pair.unlabelled.index.tolist() == Batches(labelled.images, 8, seed=2).at(step).index.tolist()
        assert pair.labelled.index.tolist() == LabelledBatches(labelled, 3, seed=2).at(step).index.tolist()
