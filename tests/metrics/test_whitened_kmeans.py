import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from sslpipe.metrics.whitened_kmeans import WhitenedKMeansSettings, fit_whitened_kmeans


def blobs(count=400, kinds=5, dimension=30, noise=0.3, seed=0):
    """Features of kinds, and the kind of each, with one direction of great variance that says nothing of it."""
    random = np.random.default_rng(seed)
    kind = random.integers(kinds, size=count)
    rows = random.standard_normal((kinds, dimension))[kind] + noise * random.standard_normal((count, dimension))
    rows[:, :2] += 8 + 6 * random.standard_normal((count, 2))
    return rows.astype(np.float16), kind


@pytest.mark.parametrize("above", [100_000, 100])
def test_finds_kinds_that_plain_k_means_does_not(above):
    rows, kind = blobs()
    settings = WhitenedKMeansSettings(components=6, restarts=5, mini_batches_above=above)
    found = fit_whitened_kmeans(rows, clusters=5, settings=settings, seed=0)
    assert adjusted_rand_score(kind, found.predict(found.embed(rows))) > 0.95
    plain = KMeans(5, n_init=5, random_state=0).fit_predict(rows.astype(np.float32))
    assert adjusted_rand_score(kind, plain) < 0.8


def test_is_scikit_learns_k_means_on_its_whitened_components():
    rows, _ = blobs(noise=1.0)
    settings = WhitenedKMeansSettings(components=8, restarts=3)
    found = fit_whitened_kmeans(rows, clusters=5, settings=settings, seed=0)
    unit = normalize(rows.astype(np.float64))
    white = normalize(PCA(8, whiten=True, svd_solver="full").fit(unit).transform(unit))
    signs = np.sign((found.embed(rows) * white).sum(axis=0))
    np.testing.assert_allclose(found.embed(rows) * signs, white, atol=0.01)
    embedding = found.embed(rows)
    reference = KMeans(5, n_init=3, random_state=0).fit(embedding)
    assert np.array_equal(found.predict(embedding), reference.labels_)


@pytest.mark.parametrize("above", [100_000, 100])
def test_the_seed_decides_the_result(above):
    rows, _ = blobs(noise=2.0)
    settings = WhitenedKMeansSettings(restarts=1, mini_batches_above=above)
    first, again, other = (fit_whitened_kmeans(rows, clusters=7, settings=settings, seed=s).centers for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_more_clusters_than_images_are_refused():
    with pytest.raises(ValueError, match="at most the 4 images"):
        fit_whitened_kmeans(blobs(4)[0], clusters=5, settings=WhitenedKMeansSettings(), seed=0)


def test_few_images_have_few_components():
    rows, kind = blobs(count=60, kinds=3, noise=0.5)
    found = fit_whitened_kmeans(rows, clusters=3, seed=0, settings=WhitenedKMeansSettings())
    assert found.pca.basis.shape[1] == 3
    many, _ = blobs(count=400, kinds=3)
    assert fit_whitened_kmeans(many, clusters=3, seed=0, settings=WhitenedKMeansSettings()).pca.basis.shape[1] == 25
    random = np.random.default_rng(0)
    noisy = np.hstack([rows[:, 2:], 0.5 * random.standard_normal((60, 40))])
    found = fit_whitened_kmeans(noisy, clusters=3, seed=0, settings=WhitenedKMeansSettings())
    assert adjusted_rand_score(kind, found.predict(found.embed(noisy))) > 0.9
