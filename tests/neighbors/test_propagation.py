"""Label propagation against a dense solution and scikit-learn's LabelSpreading, and its properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.semi_supervised import LabelSpreading

from sslpipe.neighbors import propagation
from sslpipe.neighbors.propagation import class_probabilities, neighbor_graph, propagate
from sslpipe.neighbors.search import nearest_neighbors


def sample(seed, count=40, k=5, classes=3, each=2):
    """Neighbours and cosines of points around three centres, and labels of some of them."""
    random = np.random.default_rng(seed)
    group = np.concatenate([np.arange(classes).repeat(each), random.integers(0, classes, count - classes * each)])
    points = np.eye(8)[group] + random.normal(scale=0.4, size=(count, 8))
    neighbors, similarities = nearest_neighbors(torch.from_numpy(points), k=k)
    index = np.sort(random.permutation(classes * each))
    return neighbors, similarities, index, group[index]


def dense_weights(neighbors, similarities, power):
    """W by loops."""
    weights = np.zeros((len(neighbors), len(neighbors)))
    for i, (row, cosines) in enumerate(zip(neighbors, similarities, strict=True)):
        for j, cosine in zip(row, cosines, strict=True):
            if cosine > 0:
                weights[i, j] += float(cosine) ** power
                weights[j, i] += float(cosine) ** power
    return weights


def dense_scores(weights, index, label, classes, alpha):
    """(I - αS)⁻¹ Y by a dense solution."""
    root = np.sqrt(weights.sum(axis=1))
    targets = np.zeros((len(weights), classes))
    targets[index, label] = 1
    return np.linalg.solve(np.eye(len(weights)) - alpha * weights / np.outer(root, root), targets)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), power=st.sampled_from([1.0, 3.0]), alpha=st.sampled_from([0.0, 0.5, 0.99]))
def test_scores_are_those_of_a_dense_solution(seed, power, alpha):
    neighbors, similarities, index, label = sample(seed)
    graph = neighbor_graph(neighbors, similarities, power=power)
    weights = dense_weights(neighbors, similarities, power)
    np.testing.assert_allclose(graph.weights.toarray(), weights, rtol=1e-6)
    np.testing.assert_allclose(graph.degree, weights.sum(axis=1), rtol=1e-6)
    found = propagate(graph, index, label, classes=3, alpha=alpha)
    expected = dense_scores(weights, index, label, 3, alpha)
    np.testing.assert_allclose(found.scores, expected, atol=1e-5 * expected.max())
    by_mass = expected / expected.sum(axis=0)
    reached = by_mass.sum(axis=1) > 0
    probability = found.probabilities()
    np.testing.assert_allclose(probability[~reached], 1 / 3)
    by_mass, probability = by_mass[reached], probability[reached]
    np.testing.assert_allclose(probability, by_mass / by_mass.sum(axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(found.totals()[reached], by_mass.sum(axis=1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_label_spreading(seed):
    neighbors, similarities, index, label = sample(seed, count=60)
    weights = dense_weights(neighbors, similarities, 3.0)
    known = np.full(60, -1)
    known[index] = label
    theirs = LabelSpreading(kernel=lambda a, b: weights, alpha=0.99, max_iter=5000, tol=1e-12)
    theirs.fit(np.arange(60)[:, None], known)
    graph = neighbor_graph(neighbors, similarities, power=3.0)
    found = propagate(graph, index, label, classes=3, alpha=0.99).scores
    reached = graph.reached(index)
    np.testing.assert_allclose(
        class_probabilities(found, np.ones(3))[reached], theirs.label_distributions_[reached], atol=1e-5
    )


def test_blocks_of_right_hand_sides_change_nothing(monkeypatch):
    neighbors, similarities, index, label = sample(0)
    graph = neighbor_graph(neighbors, similarities, power=3.0)
    whole = propagate(graph, index, label, classes=3, alpha=0.99, part=np.arange(6) % 2)
    monkeypatch.setattr(propagation, "COLUMNS", 1)
    done = []
    single = propagate(graph, index, label, classes=3, alpha=0.99, part=np.arange(6) % 2, advance=done.append)
    np.testing.assert_allclose(single.scores, whole.scores, rtol=1e-5, atol=1e-6)
    assert set(done) == {1}
    assert sum(done) == len({(c, p) for c, p in zip(label, np.arange(6) % 2, strict=True)})


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), parts=st.integers(2, 3))
def test_labels_left_out_have_no_influence(seed, parts):
    neighbors, similarities, index, label = sample(seed, each=4)
    graph = neighbor_graph(neighbors, similarities, power=3.0)
    part = np.empty(len(index), dtype=np.int64)
    for each in range(3):  # a part has labels of all classes
        part[label == each] = np.arange(4) % parts
    found = propagate(graph, index, label, classes=3, alpha=0.9, part=part)
    np.testing.assert_allclose(found.parts.sum(axis=0), found.scores[index], rtol=1e-4, atol=1e-6)
    left_out = found.left_out(part)
    for number in range(parts):
        kept, rows = part != number, part == number
        others = propagate(graph, index[kept], label[kept], classes=3, alpha=0.9).probabilities()
        np.testing.assert_allclose(left_out[rows], others[index[rows]], atol=1e-4)


def test_labels_in_no_part_count_for_the_scores_alone():
    neighbors, similarities, index, label = sample(1, each=4)
    graph = neighbor_graph(neighbors, similarities, power=3.0)
    part = np.empty(len(index), dtype=np.int64)
    for each in range(3):
        part[label == each] = [0, 1, -1, -1]
    found = propagate(graph, index, label, classes=3, alpha=0.9, part=part)
    inside = part >= 0
    alone = propagate(graph, index[inside], label[inside], classes=3, alpha=0.9, part=part[inside])
    np.testing.assert_allclose(found.left_out(part[inside]), alone.left_out(part[inside]), atol=1e-5)
    whole = propagate(graph, index, label, classes=3, alpha=0.9)
    np.testing.assert_allclose(found.scores, whole.scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.probabilities(), whole.probabilities(), atol=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_the_order_of_images_and_of_classes_does_not_matter(seed):
    neighbors, similarities, index, label = sample(seed)
    order, classes = np.random.default_rng(seed).permutation(40), np.random.default_rng(seed + 1).permutation(3)
    place = np.argsort(order)  # image order[i] becomes image i
    found = propagate(
        neighbor_graph(neighbors, similarities, power=3.0), index, label, classes=3, alpha=0.9
    ).probabilities()
    moved = propagate(
        neighbor_graph(place[neighbors[order]], similarities[order], power=3.0),
        place[index],
        classes[label],
        classes=3,
        alpha=0.9,
    ).probabilities()
    np.testing.assert_allclose(moved[:, classes], found[order], atol=1e-5)


def two_parts():
    """Two triangles of images, and an image whose cosines are not positive."""
    neighbors = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4], [0, 3]])
    similarities = np.full((7, 2), 0.8, dtype=np.float32)
    similarities[6] = [0, -0.5]
    return neighbor_graph(neighbors, similarities, power=3.0)


def test_labels_stay_within_the_part_of_the_graph_that_has_them():
    found = propagate(two_parts(), np.array([0, 4]), np.array([0, 1]), classes=2, alpha=0.99).probabilities()
    np.testing.assert_array_equal(found[:6], np.eye(2)[[0, 0, 0, 1, 1, 1]])


def test_an_image_that_no_label_reaches_has_equal_probabilities():
    graph = two_parts()
    found = propagate(graph, np.array([0, 2]), np.array([0, 1]), classes=2, alpha=0.99)
    assert graph.reached(np.array([0, 2])).tolist() == [True] * 3 + [False] * 4
    assert (found.scores[3:] == 0).all()
    np.testing.assert_array_equal(found.probabilities()[3:], np.full((4, 2), 0.5))
    assert graph.normalized().toarray()[6].tolist() == [0.0] * 7


def test_a_class_does_not_gain_by_its_number_of_labels():
    """On a graph where all images are alike, each class has the same share whatever its number of labels."""
    neighbors = np.array([[j for j in range(9) if j != i] for i in range(9)])
    graph = neighbor_graph(neighbors, np.full((9, 8), 0.5, dtype=np.float32), power=3.0)
    found = propagate(graph, np.arange(5), np.array([0, 0, 0, 0, 1]), classes=2, alpha=0.99).probabilities()
    np.testing.assert_allclose(found[5:], 0.5, atol=1e-6)


def test_an_image_is_not_its_own_neighbour():
    graph = neighbor_graph(np.array([[0, 1], [0, 1]]), np.ones((2, 2), dtype=np.float32), power=3.0)
    assert graph.weights.toarray().tolist() == [[0, 2], [2, 0]]


@pytest.mark.parametrize("neighbors", [[[1], [2]], [[1], [-1]]])
def test_indices_of_no_image_are_refused(neighbors):
    with pytest.raises(ValueError, match="expected indices below 2"):
        neighbor_graph(np.array(neighbors), np.ones((2, 1)), power=3.0)


def test_a_solver_that_gives_up_says_so(monkeypatch):
    neighbors, similarities, index, label = sample(0)
    monkeypatch.setattr(propagation, "ITERATIONS", 2)
    with pytest.raises(ArithmeticError, match=r"not solved after 2 iterations at α = 0\.99"):
        propagate(neighbor_graph(neighbors, similarities, power=3.0), index, label, classes=3, alpha=0.99)
