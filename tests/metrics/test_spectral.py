"""Spectral clustering against scikit-learn's, and against the dense eigenvectors."""

import numpy as np
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph

from sslpipe.metrics import eigenvectors as module
from sslpipe.metrics.spectral import SpectralSettings, adjacency, spectral_groups, spectral_vectors
from sslpipe.neighbors.search import nearest_neighbors


def kinds(count=240, number=4, noise=0.45, seed=0):
    """The neighbours of noisy directions, and the kind of each."""
    random = np.random.default_rng(seed)
    kind = np.arange(count) % number
    rows = np.eye(8)[kind] + noise * random.standard_normal((count, 8))
    return nearest_neighbors(rows.astype(np.float32), k=10)[0], kind, rows


def dense_matrix(neighbors):
    count = len(neighbors)
    links = np.zeros((count, count))
    for i, row in enumerate(neighbors):
        for j in row:
            links[i, j] += 0.5
            links[j, i] += 0.5
    degree = links.sum(axis=1)
    return links, links / np.sqrt(degree[:, None] * degree[None])


def test_the_graph_is_scikit_learns():
    neighbors, _, rows = kinds()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    directed = kneighbors_graph(unit, 10).toarray()
    np.testing.assert_array_equal(adjacency(neighbors).toarray(), (directed + directed.T) / 2)
    np.testing.assert_array_equal(adjacency(neighbors).toarray(), dense_matrix(neighbors)[0])


@pytest.mark.parametrize("dense", [500, 0])
@pytest.mark.parametrize("regularization", [0.0, 1.0])
def test_vectors_are_the_dense_ones_up_to_sign(monkeypatch, dense, regularization):
    monkeypatch.setattr(module, "DENSE", dense)
    neighbors, _, _ = kinds()
    links, matrix = dense_matrix(neighbors)
    if regularization:
        links = links + regularization * links.sum() / len(links) / len(links)
        degree = links.sum(axis=1)
        matrix = links / np.sqrt(degree[:, None] * degree[None])
    expected, vectors = np.linalg.eigh(matrix)
    values, found = spectral_vectors(adjacency(neighbors), 4, regularization=regularization, seed=0)
    np.testing.assert_allclose(values, expected[::-1][:4], atol=1e-9)
    np.testing.assert_allclose(np.abs(found.T @ vectors[:, ::-1][:, :4]), np.eye(4), atol=1e-5)


@pytest.mark.parametrize("dense", [500, 0])
@pytest.mark.parametrize("number", [2, 4])
def test_agrees_with_scikit_learn_on_clear_data(monkeypatch, dense, number):
    monkeypatch.setattr(module, "DENSE", dense)
    neighbors, kind, _ = kinds(number=number, noise=0.26)
    found = spectral_groups(neighbors, clusters=number, seed=0)
    assert found.parts == 1
    model = SpectralClustering(number, affinity="precomputed", random_state=0)
    reference = model.fit_predict(adjacency(neighbors).toarray())
    assert adjusted_rand_score(reference, found.groups) == 1
    assert adjusted_rand_score(kind, found.groups) == 1
    assert found.groups.dtype == np.int64
    assert (np.diff(found.eigenvalues) <= 0).all()


@pytest.mark.parametrize(("count", "number", "number_of_kinds"), [(1500, 150, 100), (1200, 250, 300)])
def test_many_vectors_are_the_dense_ones(monkeypatch, count, number, number_of_kinds):
    """The last of them have neighbours that are nearly as large, so that they are inexact."""
    random = np.random.default_rng(0)
    kind = np.arange(count) % number_of_kinds
    rows = np.eye(number_of_kinds)[kind] + 0.2 * random.standard_normal((count, number_of_kinds))
    links = adjacency(nearest_neighbors(rows.astype(np.float32), k=10)[0])
    found = {}
    for dense in (10**4, 0):
        monkeypatch.setattr(module, "DENSE", dense)
        found[dense] = spectral_vectors(links, number, regularization=0.0, seed=0)
        monkeypatch.undo()
    (expected, vectors), (values, filtered) = found.values()
    np.testing.assert_allclose(values, expected, atol=1e-3)
    np.testing.assert_allclose(filtered.T @ filtered, np.eye(number), atol=1e-3)
    within = ((vectors.T @ filtered[:, : number // 2]) ** 2).sum(axis=0)
    np.testing.assert_allclose(within, 1, atol=1e-3)


@pytest.mark.parametrize("parts", [3, 30, 120])
def test_every_part_of_a_graph_has_a_vector(monkeypatch, parts):
    """Each has the eigenvalue 1, of which Lanczos iterations find but some."""
    monkeypatch.setattr(module, "DENSE", 0)
    neighbors, part = separate([20] * parts)
    values, vectors = spectral_vectors(adjacency(neighbors), parts, regularization=0.0, seed=0)
    np.testing.assert_allclose(values, 1, atol=1e-5)
    indicators = np.eye(parts)[part]
    weights = indicators * np.sqrt(adjacency(neighbors).sum(axis=1))[:, None]
    weights /= np.linalg.norm(weights, axis=0)
    np.testing.assert_allclose(((weights.T @ vectors) ** 2).sum(axis=0), 1, atol=1e-4)


def separate(sizes, k=5, seed=0):
    """The neighbours in a graph of parts without links between them, in random order, and the part of each image."""
    random = np.random.default_rng(seed)
    part = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = np.stack([random.choice(np.setdiff1d(np.flatnonzero(part == p), [i]), k, replace=False)
                     for i, p in enumerate(part)])  # fmt: skip
    return rows, part


@pytest.mark.parametrize("dense", [500, 0])
@pytest.mark.parametrize("sizes", [[60, 60, 60, 60], [100, 50, 40, 30]])
def test_parts_of_a_graph_that_falls_apart_are_groups(monkeypatch, dense, sizes):
    monkeypatch.setattr(module, "DENSE", dense)
    neighbors, part = separate(sizes)
    found = spectral_groups(neighbors, clusters=4, seed=0)
    assert found.parts == 4
    assert adjusted_rand_score(part, found.groups) == 1


def test_groups_that_single_links_join_are_all_found():
    """Their eigenvalues differ by some 1e-5, which a loose tolerance takes for one."""
    neighbors, part = separate([200] * 10, k=8)
    for each in range(9):
        neighbors[np.flatnonzero(part == each)[0], 0] = np.flatnonzero(part == each + 1)[0]
    found = spectral_groups(neighbors, clusters=10, seed=0)
    assert found.parts == 1
    assert (found.eigenvalues > 0.999).all()
    assert adjusted_rand_score(part, found.groups) == 1


@pytest.mark.parametrize("dense", [500, 0])
def test_more_parts_than_groups_still_work(monkeypatch, dense):
    monkeypatch.setattr(module, "DENSE", dense)
    neighbors, part = separate([60] * 2 + [12] * 8)
    found = spectral_groups(neighbors, clusters=3, seed=0)
    assert found.parts == 10
    for each in range(10):
        assert len(set(found.groups[part == each].tolist())) == 1
    assert len(np.unique(found.groups)) == 3


@pytest.mark.parametrize("count", [5, 11])
def test_a_few_images_that_only_know_each_other_are_no_group(count):
    neighbors, kind, _ = kinds(480, noise=0.26)
    alone = len(neighbors) + np.stack([np.resize(np.delete(np.arange(count), i), 10) for i in range(count)])
    found = spectral_groups(np.concatenate([neighbors, alone]), clusters=4, seed=0)
    assert found.parts == 2
    assert adjusted_rand_score(kind, found.groups[: len(kind)]) > 0.95
    assert (found.groups[len(kind) :] == -1).all()
    kept = spectral_groups(
        np.concatenate([neighbors, alone]), clusters=5, settings=SpectralSettings(smallest_part=0.0), seed=0
    )
    assert len(set(kept.groups[len(kind) :].tolist())) == 1


@pytest.mark.parametrize("dense", [500, 0])
def test_the_seed_alone_decides(monkeypatch, dense):
    monkeypatch.setattr(module, "DENSE", dense)
    neighbors, _, _ = kinds(noise=1.5)
    settings = SpectralSettings(restarts=1)
    first, again = (spectral_groups(neighbors, clusters=6, settings=settings, seed=3) for _ in range(2))
    assert np.array_equal(first.groups, again.groups)


@pytest.mark.parametrize("clusters", [1, 2, 12])
def test_any_number_of_groups_up_to_that_of_images(clusters):
    neighbors, _ = separate([6, 6], k=3)
    assert spectral_groups(neighbors, clusters=clusters, seed=0).groups.max() < clusters


def test_wrong_input_is_refused():
    neighbors, _ = separate([6, 6], k=3)
    with pytest.raises(ValueError, match="at most the 12 images"):
        spectral_groups(neighbors, clusters=13, seed=0)
    with pytest.raises(ValueError, match="indices below 11"):
        adjacency(neighbors[:11])
