import json

import numpy as np
import pytest

from sslpipe.data.store import Store
from sslpipe.decoding.entries import Entry
from sslpipe.io.errors import UserError
from sslpipe.preparation.questions_file import Row, write_rows
from sslpipe.preparation.splits import Labelled, draw_splits
from sslpipe.preparation.store_writer import Settings, write_store
from sslpipe.sources import folder


class Arrays:
    """60 images of three classes, every fifth without a label."""

    settings = folder.Settings(path="arrays")
    classes = ("a", "b", "c")
    ignored: dict[str, int] = {}  # noqa: RUF012
    unreadable: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, asked=()):
        self.entries = tuple(Entry(f"{i}", -1 if i % 5 == 0 else i % 3, asked=i in asked) for i in range(60))

    def load(self, index):
        return np.full((4, 4), index, np.uint8)


def write(out, labelled, source=None, seed=0):
    settings = Settings(size=4, channels=1, labelled=labelled)
    return write_store(out, source or Arrays(), settings, protocol="split", seed=seed, workers=1, strict=False)


SPLITS = draw_splits(Arrays().entries, test=0.25, held_out=0.1, protocol="split", seed=0)
TRAIN = [i for i in SPLITS["train"].tolist() if i % 5]


def test_the_listed_training_images_are_the_labelled_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held_out, chosen = int(SPLITS["held_out"][0]), TRAIN[3:12]
    rows = [Row(str(i), question=str(n)) for n, i in enumerate([*chosen, held_out], 1)]
    # A label of a test image that was known before is no question about it.
    write_rows(tmp_path / "q.csv", [*rows, Row(str(SPLITS["test"][0]), "a")])
    prepared = write(tmp_path / "out", Labelled(images="q.csv"))
    store = Store(tmp_path / "out")
    index, label = store.labelled()
    assert [int(store.files("train")[i]) for i in index] == chosen
    assert label.tolist() == [i % 3 for i in chosen]
    assert store.labels_chosen
    assert json.loads((tmp_path / "out/labelled/chosen.json").read_text()) == {"chosen": 9, "labelled": 9}
    assert "9 labelled images of q.csv, chosen, not drawn; 1 held-out images of it are not trained on" in str(prepared)


def test_drawn_labels_are_not_called_chosen(tmp_path):
    write(tmp_path / "drawn", Labelled(per_class=2))
    assert not Store(tmp_path / "drawn").labels_chosen
    write(tmp_path / "asked", None, Arrays(asked={*TRAIN[:4], *SPLITS["held_out"].tolist()}))
    assert json.loads((tmp_path / "asked/labelled/chosen.json").read_text()) == {"chosen": 4, "labelled": len(TRAIN)}


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (str(SPLITS["test"][0]), "is a test image with this seed and these splits, expected a training image"),
        ("x", "prepare.labelled.images: 'x' in .* is no image of the source"),
        (str(next(i for i in SPLITS["train"] if i % 5 == 0)), "has no label in the source"),
    ],
)
def test_images_that_cannot_be_labelled_ones(tmp_path, image, error):
    write_rows(tmp_path / "q.csv", [Row(str(TRAIN[0]), question="1"), Row(image, question="2")])
    with pytest.raises(UserError, match=error):
        write(tmp_path / "out", Labelled(images=str(tmp_path / "q.csv")))
    assert not (tmp_path / "out").exists()


def test_folds_and_a_table_exclude_each_other():
    with pytest.raises(UserError, match="fold: 2 found, expected 0"):
        Labelled(images="q.csv", fold=2)
    with pytest.raises(UserError, match="expected exactly one of the keys"):
        Labelled(images="q.csv", per_class=1)
