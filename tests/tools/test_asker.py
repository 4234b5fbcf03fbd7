import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from stored import write_model, write_store, write_stored_features

from sslpipe.asking.questions import DOUBTFUL, RANDOM, UNCERTAIN
from sslpipe.reporting import neighbors
from sslpipe.tools.ask_models import Outputs
from sslpipe.tools.asker import Asker, KnownLabels

CPU = torch.device("cpu")
NAMES = ("ant", "bee", "cow", "dog")
TRAIN, HELD_OUT = 120, 30
TRUTH = np.arange(TRAIN + HELD_OUT) % 4


def outputs(folder, classes=()):
    """A model that is sure of the right output of all images, and of the next one for every fifth."""
    wrong = np.arange(len(TRUTH)) % 5 == 0
    each = np.full((len(TRUTH), 4), 0.01, np.float32)
    each[np.arange(len(TRUTH)), (TRUTH + wrong) % 4] = 0.97
    return Outputs(Path(folder), tuple(classes), each[:TRAIN], each[TRAIN:])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("project"), np.random.default_rng(0)
    features = rng.normal(0, 0.12, (TRAIN + HELD_OUT, 64)) + np.eye(64)[TRUTH]
    images = rng.integers(0, 256, (TRAIN + HELD_OUT, 3, 8, 8), dtype=np.uint8)
    store = write_store(folder / "prepare", {"train": images[:TRAIN], "held_out": images[TRAIN:]})
    write_model(folder / "pretrain", store)
    split = {"train": features[:TRAIN], "held_out": features[TRAIN:]}
    write_stored_features(folder / "features", store, folder / "pretrain", split)
    return Asker.open(store, folder / "pretrain", folder / "features", folder, None, CPU)


def asker(opened, *, groups=None, classifier=None):
    return Asker(opened.stored, opened.similar, groups, classifier, CPU)


def labels(count=0, held_out=0, names=NAMES, **skipped):
    train, random = np.full(TRAIN, -1), np.full(HELD_OUT, -1)
    number = np.array([names.index(NAMES[each]) for each in TRUTH])
    train[:count], random[:held_out] = number[:count], number[TRAIN:][:held_out]
    return KnownLabels(train=train, held_out=random, random=random, names=names, **skipped)


def test_a_project_without_models_is_asked_about_by_similarity(opened):
    assert (opened.groups, opened.classifier) == (None, None)
    asked = opened.questions(labels(), 10, seed=0)
    assert [each.kind for each in asked] == ["covers"] * 9 + [RANDOM]
    assert opened.suggested(3) is None
    assert opened.accuracy(labels()) is None


def test_ten_at_a_time_are_the_questions_of_one_call(opened):
    made = asker(opened, groups=outputs("self-label"))
    whole = made.questions(labels(), 20, seed=4)
    assert [each.kind for each in whole[:4]] == ["typical"] * 4
    known, found = labels(), []
    for _ in range(2):
        found += made.questions(known, 10, seed=4, place=len(found))
        for each in found:
            (known.held_out if each.held_out else known.train)[each.image] = 0
    assert found == whole


def test_skipped_images_are_not_asked_for(opened):
    made = asker(opened, groups=outputs("self-label"))
    first = made.questions(labels(), 20, seed=0)
    skipped = {split: np.zeros(count, bool) for split, count in ((False, TRAIN), (True, HELD_OUT))}
    for each in first:
        skipped[each.held_out][each.image] = True
    again = made.questions(labels(skipped_train=skipped[False], skipped_held_out=skipped[True]), 20, seed=0)
    assert not any(skipped[each.held_out][each.image] for each in again)
    assert [each.kind for each in again[:4]] == ["typical"] * 4
    assert {made.pool.group[each.image] for each in again[:4]} == {0, 1, 2, 3}


def test_a_doubtful_label_is_asked_for_unless_it_was_before(opened):
    known = labels(60)
    known.train[7] = (TRUTH[7] + 1) % 4
    asked = [each for each in opened.questions(known, 10, seed=0) if each.kind == DOUBTFUL]
    assert [(each.image, each.reason) for each in asked] == [(7, "check 'ant': similar images say 'dog'")]
    assert not [each for each in opened.questions(known, 10, seed=0, checked={7}) if each.kind == DOUBTFUL]
    assert opened.questions(known, 1, seed=0, place=4)[0].image == 7


@pytest.mark.parametrize("names", [NAMES, ("dog", "cow", "bee", "ant", "eel")])
def test_a_classifier_is_compared_with_labels_by_the_names_of_classes(opened, names):
    made = asker(opened, classifier=outputs("semisup/propagation", NAMES))
    line, accuracy = made.accuracy(labels(0, 25, names))
    assert accuracy == pytest.approx(0.8)
    assert "on 25 random held-out images" in line
    few, many = made.known(labels(19, 25, names)), made.known(labels(40, 25, names))
    assert few.probability is None
    assert many.probability.max(axis=1).mean() == pytest.approx(0.8, abs=1e-3)
    kinds = [each.kind for each in made.questions(labels(40, 25, names), 10, seed=0)]
    assert kinds == [UNCERTAIN] * 9 + [RANDOM]


def test_a_class_that_the_classifier_does_not_know_counts_as_wrong(opened):
    made = asker(opened, classifier=outputs("semisup/propagation", NAMES))
    known = labels(0, 10, (*NAMES, "eel"))
    known.random[known.random == 1] = 4
    right = np.array([i % 4 != 1 and (TRAIN + i) % 5 > 0 for i in range(10)])
    assert made.accuracy(known)[1] == pytest.approx(right.mean())


def test_the_classifier_suggests_its_most_probable_class(opened):
    made = asker(opened, classifier=outputs("semisup/propagation", NAMES))
    assert [made.suggested(image) for image in (1, 2, 5, TRAIN + 1)] == ["bee", "cow", "cow", "bee"]
    for image in (-1, TRAIN + HELD_OUT):
        with pytest.raises(IndexError, match="expected 0 to 149"):
            made.suggested(image)


@pytest.mark.parametrize("components", [128, 20])
@pytest.mark.parametrize("k", [1, 5, 60, 500])
def test_neighbors_are_the_most_similar_training_images(opened, components, k, monkeypatch):
    monkeypatch.setattr(neighbors, "COMPONENTS", components)
    features = np.concatenate([opened.stored.split("train"), opened.stored.split("held_out")]).astype(np.float64)
    similar = neighbors.find_similar(torch.from_numpy(features[:TRAIN]), 50, CPU)
    made = Asker(opened.stored, similar, None, None, CPU)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    if similar.span is not None:
        unit = unit @ similar.span
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for image in (0, 119, 120, 149):
        cosine = unit[:TRAIN] @ unit[image]
        others = [i for i in np.argsort(-cosine) if i != image][:k]
        found = made.neighbors(image, k)
        assert [i for i, _ in found] == others
        np.testing.assert_allclose([value for _, value in found], cosine[others], atol=1e-5)
