import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

sys.path.insert(0, str(Path(__file__).parent))
from small_project import Project

from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.reporting import label_doubts
from sslpipe.reporting.duplicates import find_duplicates
from sslpipe.reporting.label_doubts import PENALTY, VOTERS, Labelled, doubts, find_label_doubts, probabilities
from sslpipe.reporting.neighbors import find_similar
from sslpipe.reporting.predictions import small_pixels
from sslpipe.reporting.shown_images import choose_shown

CPU = torch.device("cpu")


def labelled(images=150, classes=3, wrong=(), noise=0.4, k=10):
    rng = np.random.default_rng(0)
    truth = np.arange(images) % classes
    vectors = rng.normal(0, noise / np.sqrt(8), (images, 8)).astype(np.float32)
    vectors[np.arange(images), truth] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    label = truth.copy()
    label[list(wrong)] = (truth[list(wrong)] + 1) % classes
    index, cosine = nearest_neighbors(vectors, k=k)
    return truth, Labelled(label, vectors, index, cosine, classes)


def all_probabilities(given):
    return np.concatenate([rows for _, rows in probabilities(given)])


def test_probabilities_leave_the_image_out():
    """By fitting scikit-learn's ridge regression again without each image, and counting its neighbours' votes."""
    _, given = labelled(images=40, noise=1.5)
    found = all_probabilities(given)
    rows = np.column_stack([given.vectors, np.ones(40)]).astype(np.float64)
    targets = np.eye(3)[given.label]
    for i in range(40):
        others = np.arange(40) != i
        ridge = Ridge(alpha=PENALTY * 40, fit_intercept=False, solver="cholesky").fit(rows[others], targets[others])
        linear = np.maximum(ridge.predict(rows[i : i + 1])[0], 0)
        votes = np.zeros(3)
        for j, cosine in zip(given.index[i], given.cosine[i], strict=True):
            votes[given.label[j]] += max(cosine, 1e-6)
        np.testing.assert_allclose(found[i], (votes / votes.sum() + linear / linear.sum()) / 2, atol=1e-6)


def test_the_own_label_does_not_count():
    _, given = labelled(images=60, noise=1.5)
    other = given.label.copy()
    other[7] = (other[7] + 1) % 3
    changed = Labelled(other, given.vectors, given.index, given.cosine, 3)
    np.testing.assert_allclose(all_probabilities(given)[7], all_probabilities(changed)[7], atol=1e-9)


@pytest.mark.parametrize("kept", [0, 1 << 24])
def test_the_confident_joint_by_loops(kept, monkeypatch):
    monkeypatch.setattr(label_doubts, "ROWS", 17)
    monkeypatch.setattr(label_doubts, "KEPT", kept)
    _, given = labelled(noise=1.5, wrong=range(0, 40, 2))
    p = all_probabilities(given)
    threshold = [np.mean([p[i, j] for i in range(150) if given.label[i] == j]) for j in range(3)]
    expected = {}
    for i in range(150):
        able = [j for j in range(3) if p[i, j] >= threshold[j]]
        if able:
            best = max(able, key=lambda j: (p[i, j], -j))
            if best != given.label[i]:
                rest = max(p[i, j] for j in range(3) if j != given.label[i])
                expected[i] = (best, p[i, given.label[i]] - rest)
    doubtful, suggested, margin = doubts(given)
    assert doubtful.tolist() == sorted(expected)
    assert suggested.tolist() == [expected[i][0] for i in doubtful.tolist()]
    np.testing.assert_allclose(margin, [expected[i][1] for i in doubtful.tolist()], atol=1e-9)


def test_wrong_labels_are_found_with_their_class():
    wrong = range(0, 150, 14)
    truth, given = labelled(wrong=wrong)
    doubtful, suggested, margin = doubts(given)
    assert set(wrong) <= set(doubtful.tolist())
    first = doubtful[np.argsort(margin)][: len(wrong)]
    assert set(first.tolist()) == set(wrong)
    assert all(suggested[doubtful.tolist().index(i)] == truth[i] for i in wrong)


def test_right_labels_raise_no_doubt():
    assert not len(doubts(labelled(noise=0.1)[1])[0])


def test_doubts_name_images_among_all_and_only_those_with_a_label(tmp_path):
    project = Project(tmp_path, counts=(90, 10, 20))
    label = np.load(project.prepared / "train/labels.npy")
    label[::2] = -1
    label[13] = (label[13] + 1) % 3
    np.save(project.prepared / "train/labels.npy", label)
    images = choose_shown(project.store, 10**6, 0)
    similar = find_similar(torch.from_numpy(project.features).float(), VOTERS, CPU)
    found, how, note = find_label_doubts(images, similar, CPU)
    assert (found[0]["image"], found[0]["given"], found[0]["suggested"]) == (13, label[13], project.label[13])
    assert found[0]["score"] > 0.9
    assert all(images.known[each["image"]] for each in found)
    assert "1911.00068" in how
    assert note is None


def test_too_few_labels_are_said(tmp_path):
    project = Project(tmp_path, counts=(12, 2, 4))
    similar = find_similar(torch.from_numpy(project.features).float(), 8, CPU)
    found, how, note = find_label_doubts(choose_shown(project.store, 100, 0), similar, CPU)
    assert found is None
    assert how.startswith("Not searched")
    assert note.startswith("Doubtful labels are left out")


@pytest.fixture
def with_copies(tmp_path):
    """Image 3 of train is the first of test, 5 of train is nearly 6 and has another class, 8 and 9 are equal."""
    project = Project(tmp_path, counts=(20, 4, 6))
    train, test = (np.load(project.prepared / split / "images.npy") for split in ("train", "test"))
    test[0] = train[3]
    train[6] = (train[5] * 0.9 + 5).astype(np.uint8)
    train[9] = train[8]
    np.save(project.prepared / "train/images.npy", train)
    np.save(project.prepared / "test/images.npy", test)
    features = project.features.copy()
    features[24], features[6], features[9] = features[3], features[5] + 1e-3, features[8]
    return choose_shown(project.store, 10**6, 0), find_similar(torch.from_numpy(features).float(), 8, CPU)


def test_copies_across_splits_are_first(with_copies):
    images, similar = with_copies
    sets, how, note = find_duplicates(images, similar, small_pixels(images).numpy())
    assert [found["images"] for found in sets] == [[3, 24], [8, 9], [5, 6]]
    assert sets[0] == {"images": [3, 24], "similarity": 1, "splits": ["train", "test"], "conflict": False}
    assert [found["conflict"] for found in sets[1:]] == [True, True]
    assert sets[1]["similarity"] == 1
    assert 0.99 < sets[2]["similarity"] < 1
    assert "at least 0.9" in how
    assert note is None


def test_neighbours_in_features_alone_are_no_copies(with_copies):
    images, similar = with_copies
    pixels = np.random.default_rng(7).random((30, 50)).astype(np.float32)
    sets, _, _ = find_duplicates(images, similar, pixels)
    assert [found["images"] for found in sets] == [[3, 24], [8, 9]]  # equal pixels of the images themselves


def test_images_that_are_all_alike_are_no_copies(with_copies):
    """Of which the correlation is typically high, such as of digits."""
    images, similar = with_copies
    rng = np.random.default_rng(7)
    pixels = (rng.random(50) + 0.1 * rng.random((30, 50))).astype(np.float32)
    sets, how, _ = find_duplicates(images, similar, pixels)
    assert [found["images"] for found in sets] == [[3, 24], [8, 9]]
    assert "at least 0.99" in how
