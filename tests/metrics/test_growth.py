"""What evaluation keeps in memory at many images and classes, and that it counts as plain loops do."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.data.images import Images
from sslpipe.metrics.clustering import confusion, per_class, top_k_accuracy
from sslpipe.metrics.evaluation import evaluate_classifier, evaluate_clusters
from sslpipe.metrics.mappings import UNMAPPED
from sslpipe.metrics.neighbors import knn_accuracy
from sslpipe.nets.inference import infer

IMAGES, CLASSES = 20_000, 100


def peak_of(work) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("kind", ["classifier", "clusters", "hard clusters"])
def test_the_probabilities_are_not_copied(kind):
    """Neither in double precision, nor sorted, nor without unknown labels, nor as tables of ones and zeros."""
    random = np.random.default_rng(0)
    probability = random.random((IMAGES, CLASSES), dtype=np.float32)
    label, names = random.integers(0, CLASSES, IMAGES), [f"class {i}" for i in range(CLASSES)]
    work = {
        "classifier": lambda: evaluate_classifier(probability, label, names),
        "clusters": lambda: evaluate_clusters(probability, label, names, clusters=CLASSES),
        "hard clusters": lambda: evaluate_clusters(label, label, names, clusters=CLASSES),
    }[kind]
    work()
    assert peak_of(work) < probability.nbytes / 2


def test_classes_take_no_table_of_all_their_pairs():
    label = np.arange(3000) % 1500
    assert peak_of(lambda: per_class(label, label, 1500)) < 1500 * 1500


def test_a_vote_of_neighbours_takes_no_row_of_all_classes_for_each_image():
    label = np.arange(40_000) % 500
    similarity, theirs = np.ones((40_000, 2), np.float32), np.stack([label, label], axis=1)
    assert peak_of(lambda: knn_accuracy(similarity, theirs, label)) < 40_000 * 500 * 8 / 4
    assert knn_accuracy(similarity, theirs, label) == 1


def test_outputs_of_a_network_are_in_memory_once():
    """Measured by torch's own allocations: a batch at a time goes to its place."""
    images, sizes = Images(np.zeros((3500, 1, 2, 2), np.uint8), torch.device("cpu")), []
    cat = torch.cat
    try:
        torch.cat = lambda *a, **b: sizes.append(1) or cat(*a, **b)
        output = infer(lambda batch: batch.flatten(1), images)
    finally:
        torch.cat = cat
    assert output.shape == (3500, 4)
    assert not sizes


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 6), clusters=st.integers(1, 8), k=st.integers(1, 8))
def test_the_k_most_probable_clusters_are_those_of_a_stable_sort(seed, classes, clusters, k):
    random = np.random.default_rng(seed)
    probability = random.integers(0, 4, (20, clusters)).astype(np.float32) / 4  # with many equal ones
    label, mapping = random.integers(0, classes, 20), random.integers(UNMAPPED, classes, clusters)
    top = np.argsort(-probability, axis=1, kind="stable")[:, :k]
    expected = np.mean([own in mapping[first] for own, first in zip(label, top, strict=True)])
    assert top_k_accuracy(probability, label, mapping, k) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 6))
def test_classes_have_the_figures_of_the_confusion_matrix(seed, classes):
    random = np.random.default_rng(seed)
    label, mapped = random.integers(-1, classes, 25), random.integers(UNMAPPED, classes, 25)
    label[0] = 0
    matrix = confusion(mapped, label, classes)
    for own, (found, row) in enumerate(zip(per_class(mapped, label, classes), matrix, strict=True)):
        wrong = [int(count) if each != own else 0 for each, count in enumerate(row[:classes])]
        assert (found.count, found.confused_count) == (row.sum(), max(wrong))
        assert found.confused_with == (wrong.index(max(wrong)) if max(wrong) else None)
        assert found.accuracy == (pytest.approx(row[own] / row.sum()) if row.sum() else None)
