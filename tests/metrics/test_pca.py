"""The one pass against scikit-learn's PCA of the whole array."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from sslpipe.metrics import pca as module
from sslpipe.metrics.pca import fit_pca, unit_rows


def features(count=300, dimension=20, seed=0, dtype=np.float16):
    """Positive features with a mean much larger than their deviations, as those of a network with ReLU."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((dimension, dimension)) * np.geomspace(1, 0.01, dimension)[:, None]
    return (5 + random.standard_normal((count, dimension)) @ mixing).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("chunk", "count", "dimension"), [(7, 300, 20), (300, 300, 20), (4096, 300, 20), (4096, 40, 60)]
)
def test_agrees_with_scikit_learn(monkeypatch, chunk, count, dimension, dtype):
    monkeypatch.setattr(module, "CHUNK", chunk)
    rows = features(count, dimension, dtype=dtype)
    unit = normalize(rows.astype(np.float64))
    expected = PCA(6, svd_solver="full").fit(unit)
    found = fit_pca(rows, 6)
    np.testing.assert_allclose(found.eigenvalues, expected.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(found.mean, expected.mean_, atol=1e-6)
    sign = np.sign((found.basis * expected.components_.T).sum(axis=0))
    np.testing.assert_allclose(found.basis * sign, expected.components_.T, atol=1e-3)
    np.testing.assert_allclose(found.transform(rows) * sign, expected.transform(unit), atol=1e-4)
    white = PCA(6, svd_solver="full", whiten=True).fit(unit).transform(unit)
    np.testing.assert_allclose(found.transform(rows, whiten=True) * sign, white, atol=0.02)


def test_a_large_mean_costs_no_digits():
    random = np.random.default_rng(0)
    rows = (1000 + random.standard_normal((500, 8))).astype(np.float32)
    expected = PCA(3).fit(normalize(rows.astype(np.float64)))
    np.testing.assert_allclose(fit_pca(rows, 3).eigenvalues, expected.explained_variance_, rtol=1e-2)


def test_a_memory_map_a_tensor_and_an_array_give_the_same(tmp_path):
    rows = features()
    np.save(tmp_path / "rows.npy", rows)
    each = [fit_pca(given, 5) for given in (rows, np.load(tmp_path / "rows.npy", mmap_mode="r"), torch.tensor(rows))]
    for other in each[1:]:
        assert np.array_equal(other.basis, each[0].basis)
        assert np.array_equal(other.transform(torch.tensor(rows)), each[0].transform(rows))


def test_no_more_than_a_chunk_of_rows_is_read_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 10)
    rows, read = features(), []

    class Counted:
        shape = rows.shape

        def __len__(self):
            return len(rows)

        def __getitem__(self, part):
            read.append(len(rows[part]))
            return rows[part]

    found = fit_pca(Counted(), 3)
    assert sum(read) == len(rows)  # one pass
    assert max(read) == 10
    np.testing.assert_array_equal(found.transform(Counted()), found.transform(rows))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100), scale=st.floats(0.01, 100), count=st.integers(2, 40))
def test_lengths_of_rows_do_not_matter_and_signs_are_fixed(seed, scale, count):
    rows = features(count, 5, seed, np.float32)
    found, scaled = fit_pca(rows, 2), fit_pca(rows * np.float32(scale), 2)
    np.testing.assert_allclose(scaled.eigenvalues, found.eigenvalues, rtol=1e-2, atol=1e-9)
    for column in found.basis.T:
        assert column[np.abs(column).argmax()] > 0
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(found.basis.shape[1]), atol=1e-5)


@pytest.mark.parametrize("components", [1, 5, 39, 60])
def test_fewer_rows_than_dimensions_have_the_components_of_their_covariance(monkeypatch, components):
    rows = features(30, 60, dtype=np.float32)
    rows[20:] = rows[10:20]  # of rank 19
    found = fit_pca(rows, components)
    monkeypatch.setattr(module, "CHUNK", 10)
    expected = fit_pca(rows, components)
    assert found.basis.shape == expected.basis.shape == (60, min(components, 19))
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-3)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-6)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(found.basis.shape[1]), atol=1e-5)
    projected = [each.basis @ each.basis.T for each in (found, expected)]
    np.testing.assert_allclose(*projected, atol=1e-3)


def test_components_without_variance_are_left_out():
    random = np.random.default_rng(0)
    angle = random.uniform(0, 2, 50)
    rows = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=1).astype(np.float32)
    assert fit_pca(rows, 4).basis.shape == (4, 2)
    equal = fit_pca(np.ones((9, 4), np.float16), 3)
    assert equal.basis.shape == (4, 1)
    assert np.abs(equal.transform(np.ones((9, 4)), whiten=True)).max() < 1e-3
    assert fit_pca(np.eye(4)[[0, 0, 0]], 3).basis.T.tolist() == [[1, 0, 0, 0]]


def test_zero_rows_stay_and_broken_ones_are_refused():
    rows = features(10, 4)
    rows[3] = 0
    assert (unit_rows(rows.astype(np.float32))[3] == 0).all()
    fit_pca(rows, 2)
    rows[5, 1] = np.inf
    with pytest.raises(ValueError, match="in 1 of 10"):
        fit_pca(rows, 2)
    with pytest.raises(ValueError, match="expected at least 2"):
        fit_pca(rows[:1], 2)
