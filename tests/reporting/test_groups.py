import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

sys.path.insert(0, str(Path(__file__).parent))
from small_project import Project

from sslpipe.metrics.clustering import contingency
from sslpipe.reporting.encoding import byte_of, decoded, encoded
from sslpipe.reporting.group_order import group_links, group_order
from sslpipe.reporting.groups import first_two, group_part
from sslpipe.reporting.neighbors import Similar
from sslpipe.reporting.predictions import Prediction
from sslpipe.reporting.scores import calibration, class_rows, score_part
from sslpipe.reporting.shown_images import choose_shown


def drawn(images, groups, seed=0, sharpness=3.0):
    logits = np.random.default_rng(seed).normal(0, sharpness, (images, groups))
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 100))
def test_the_first_two_groups_are_those_of_a_sort(images, groups, seed):
    probability = np.round(drawn(images, groups, seed), 1)  # with many equal ones
    group, confidence, second, following = first_two(probability)
    for i, row in enumerate(probability.tolist()):
        order = sorted(range(groups), key=lambda each: (-row[each], each))
        assert (group[i], confidence[i]) == (order[0], np.float32(row[order[0]]))
        if groups > 1:
            assert (second[i], following[i]) == (order[1], np.float32(row[order[1]]))
        else:
            assert (second[i], following[i]) == (0, 0)


def test_lists_of_images_by_loops(tmp_path):
    project = Project(tmp_path, counts=(150, 20, 30))
    images = choose_shown(project.store, 10**6, 0)
    probability = drawn(200, 4)
    vectors = np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = Similar(vectors, np.zeros((200, 0), np.int64), np.zeros((200, 0), np.float32))
    prediction = Prediction("cluster", SimpleNamespace(classes=()), probability)
    part = group_part(prediction, images, similar, [None] * 4, most=6)
    group = probability.argmax(axis=1)
    assert decoded(part["group"], "u2").tolist() == group.tolist()
    for each in part["groups"]:
        own = [i for i in range(200) if group[i] == each["id"]]
        centre = vectors[own].mean(axis=0)
        ordered = {i: np.sort(probability[i])[::-1] for i in own}
        near = sorted(own, key=lambda i: (-int(byte_of(ordered[i][:1])[0]), -float(vectors[i] @ centre)))
        assert each["prototypes"] == near[:6]
        assert each["least"] == sorted(own, key=lambda i: ordered[i][0])[:6]
        between = sorted(own, key=lambda i: ordered[i][0] - ordered[i][1])[:6]
        assert each["between"] == [[i, int(np.argsort(-probability[i])[1])] for i in between]
        labels = np.bincount(images.label[own])
        assert each["purity"] == pytest.approx(labels.max() / labels.sum(), abs=1e-4)
        most = sorted((-int(count), label) for label, count in enumerate(labels) if count)[:3]
        assert each["mix"] == [[label, pytest.approx(-count / labels.sum(), abs=1e-4)] for count, label in most]
        assert each["known"] == len(own)
        assert (each["size"], each["share"]) == (len(own), pytest.approx(len(own) / 200, abs=1e-4))


@pytest.mark.parametrize(("name", "first"), [(None, 0), ("class 1", 1), ("class 2", 0)])
def test_the_class_that_names_a_group_is_first_of_equals_among_known_labels(tmp_path, name, first):
    images = choose_shown(Project(tmp_path).store, 10**6, 0)
    images.label[:] = [0, 1, 0, 1, 2, *[-1] * 23]
    similar = Similar(np.ones((28, 2), np.float32), np.zeros((28, 0), np.int64), np.zeros((28, 0), np.float32))
    prediction = Prediction("cluster", SimpleNamespace(classes=()), np.ones((28, 1), np.float32))
    (group,) = group_part(prediction, images, similar, [name])["groups"]
    assert group["mix"] == [[first, 0.4], [1 - first, 0.4], [2, 0.2]]
    assert (group["known"], group["size"], group["purity"]) == (5, 28, 0.4)


def test_links_by_loops():
    rng = np.random.default_rng(0)
    probability, neighbors = drawn(40, 5), rng.integers(0, 40, (40, 3))
    group = probability.argmax(axis=1)
    links = group_links(group, probability, neighbors)
    mean = np.zeros((5, 5))
    for a in range(5):
        own = np.flatnonzero(group == a)
        for b in range(5):
            if len(own):
                mean[a, b] = probability[own, b].mean() + (group[neighbors[own]] == b).mean()
    np.testing.assert_allclose(links, mean + mean.T, rtol=1e-5)


def test_groups_in_a_chain_are_ordered_along_it():
    place = np.random.default_rng(3).permutation(12)
    links = np.exp(-2.0 * np.abs(place[:, None] - place[None, :]))
    order = place[group_order(links, np.ones(12, np.int64))]
    assert order.tolist() in (list(range(12)), list(range(11, -1, -1)))


@given(st.integers(1, 9), st.integers(0, 50))
def test_every_group_is_in_the_order_once_and_empty_ones_are_last(groups, seed):
    rng = np.random.default_rng(seed)
    links, size = rng.random((groups, groups)), rng.integers(0, 3, groups)
    order = group_order(links + links.T, size)
    assert sorted(order) == list(range(groups))
    empty = [size[each] == 0 for each in order]
    assert empty == sorted(empty)


def test_metrics_of_classes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    label, output = rng.integers(0, 4, 300), rng.integers(0, 5, 300)
    mapping = np.array([2, -1, 0, 3, 1])
    counts = contingency(output, label, n_clusters=5, n_classes=4).T
    rows = class_rows(counts, mapping, ["a", "b", "c", "d"])
    precision, recall, f1, support = precision_recall_fscore_support(
        label, mapping[output], labels=range(4), zero_division=0
    )
    for i, row in enumerate(rows):
        assert row["images"] == support[i]
        assert [row[key] for key in ("precision", "recall", "f1")] == pytest.approx(
            [precision[i], recall[i], f1[i]], abs=1e-4
        )


def test_a_class_without_images_or_predictions_has_no_metrics():
    rows = class_rows(np.array([[2, 0], [0, 0]]), np.array([0, 1]), ["a", "b"])
    assert rows[1] == {"name": "b", "images": 0, "precision": None, "recall": None, "f1": None}


def test_calibration_adds_up():
    probability = drawn(400, 3, sharpness=1.0)
    label = np.random.default_rng(5).integers(0, 3, 400)
    found = calibration(probability, label)
    used = [each for each in found["bins"] if each["count"]]
    assert sum(each["count"] for each in used) == 400
    ece = sum(each["count"] / 400 * abs(each["accuracy"] - each["confidence"]) for each in used)
    assert found["ece"] == pytest.approx(ece, abs=2e-4)
    assert all(each["low"] - 1e-4 <= each["confidence"] <= each["high"] + 1e-4 for each in used)


@given(st.lists(st.integers(0, 65535)))
def test_arrays_come_back(values):
    assert decoded(encoded(np.array(values, np.int64), "u2"), "u2").tolist() == values


@pytest.mark.parametrize(("value", "dtype"), [(65536, "u2"), (-1, "u1"), (40000, "i2")])
def test_a_value_that_does_not_fit_is_no_other_one(value, dtype):
    with pytest.raises(ValueError, match=f"not all of them are of type {dtype}"):
        encoded(np.array([value]), dtype)


def test_confusion_has_the_columns_in_the_order_of_the_classes():
    label = np.array([0, 1, 2, 2, 1])
    group = np.array([3, 0, 1, 2, 0])  # of classes -, b, c, a by the mapping; group 2 has none
    images = SimpleNamespace(scored=np.ones(5, bool), known=np.ones(5, bool), label=label,
                             store=SimpleNamespace(classes=("a", "b", "c"), scored_splits=("test",)))  # fmt: skip
    prediction = SimpleNamespace(probability=np.eye(4, dtype=np.float32)[group], is_classifier=False)
    found = score_part(prediction, images, np.array([1, 2, -1, 0]), ["b", "c", None, "a"])["confusion"]
    assert (found["columns"], found["outputs"]) == (["a", "b", "c", "Group 2"], [3, 0, 1, 2])
    assert found["counts"] == [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1]]
