import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from sslpipe.data.images import Images
from sslpipe.metrics import kmeans as module
from sslpipe.metrics.kmeans import KMeansSettings, kmeans
from sslpipe.nets.inference import flat_pixels


def images(count, seed):
    """Three kinds, told apart by their grey."""
    random = np.random.default_rng(seed)
    grey = (np.arange(count) % 3 * 80)[:, None, None, None]
    return Images((grey + random.integers(0, 20, (count, 1, 4, 4))).astype(np.uint8), torch.device("cpu"))


@pytest.mark.parametrize("at_once", [1 << 30, 30 * 64])
def test_finds_the_kinds_also_from_a_part_of_the_images(monkeypatch, at_once):
    monkeypatch.setattr(module, "MAX_BYTES", at_once)
    monkeypatch.setattr(module, "CHUNK", 16)
    train, scored = images(90, 0), images(50, 1)
    found = kmeans(flat_pixels, train, scored, clusters=3, settings=KMeansSettings(restarts=2), seed=0)
    assert len({(kind, cluster) for kind, cluster in zip(np.arange(50) % 3, found.tolist(), strict=True)}) == 3
    if at_once == 1 << 30:
        expected = KMeans(3, n_init=2, random_state=0).fit(flat_pixels(train)).predict(flat_pixels(scored))
        assert np.array_equal(found, expected)


def test_a_part_of_the_images_has_the_size_of_the_memory_and_follows_the_seed(monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 30 * 64)
    train, scored = images(90, 0), images(20, 1)
    fitted = []

    def vectors(given):
        fitted.append(flat_pixels(given))
        return fitted[-1]

    def sample(seed):
        torch.manual_seed(len(fitted))
        found = kmeans(vectors, train, scored, clusters=3, settings=KMeansSettings(restarts=1), seed=seed)
        assert found.dtype == np.int64
        return next(each for each in reversed(fitted) if len(each) != 20 and len(each) > 1)

    first, again, other = sample(0), sample(0), sample(1)
    assert len(first) == 30
    assert len(np.unique(first, axis=0)) == 30
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def wide_images(count, seed):
    """Three kinds, told apart by their grey, of 768 values."""
    random = np.random.default_rng(seed)
    grey = (np.arange(count) % 3 * 80)[:, None, None, None]
    return Images((grey + random.integers(0, 20, (count, 3, 16, 16))).astype(np.uint8), torch.device("cpu"))


def test_above_a_size_principal_components_are_compared_with_fewer_restarts_and_a_line_says_so(monkeypatch, capsys):
    within = 3 * 600 * 3 * module.COMPONENTS
    monkeypatch.setattr(module, "restarts_within", lambda restarts, work: min(restarts, within // work))
    shapes, restarts = [], []

    class Watched(KMeans):
        def fit(self, vectors, *args, **kwargs):
            shapes.append(vectors.shape)
            restarts.append(self.n_init)
            return super().fit(vectors, *args, **kwargs)

    monkeypatch.setattr(module, "KMeans", Watched)
    train, scored = wide_images(600, 0), wide_images(50, 1)
    work = 600 * 3 * 768
    for limit in (work, work - 1):
        found = kmeans(
            flat_pixels, train, scored, clusters=3, settings=KMeansSettings(restarts=4, exact_up_to=limit), seed=0
        )
        assert len({(kind, cluster) for kind, cluster in zip(np.arange(50) % 3, found.tolist(), strict=True)}) == 3
    assert shapes == [(600, 768), (600, module.COMPONENTS)]
    assert restarts == [4, 3]
    assert capsys.readouterr().out.splitlines() == [
        "evaluate: k-means of 600 images in 3 clusters compares 64 principal components and runs 3 of 4 restarts; "
        f"evaluate.exact_up_to: {work} makes it exact"
    ]


def test_many_images_in_many_clusters_are_learnt_from_mini_batches(monkeypatch, capsys):
    monkeypatch.setattr(module, "MINI_BATCHES_WORK", 0)
    train, scored = wide_images(600, 0), wide_images(50, 1)
    settings = KMeansSettings(restarts=4, exact_up_to=1)
    first, again = (kmeans(flat_pixels, train, scored, clusters=3, settings=settings, seed=0) for _ in range(2))
    assert len({(kind, cluster) for kind, cluster in zip(np.arange(50) % 3, first.tolist(), strict=True)}) == 3
    assert np.array_equal(first, again)
    assert "with mini-batches" in capsys.readouterr().out


@pytest.mark.parametrize("exact_up_to", [10**12, 1])
def test_what_is_compared_is_in_memory_once(monkeypatch, exact_up_to):
    """Beside them only chunks; scikit-learn's variances, which make it stop, take as much again for a moment."""
    monkeypatch.setattr(module, "CHUNK", 100)
    monkeypatch.setattr(module, "PCA_BYTES", 1 << 20)
    train, scored = wide_images(6000, 0), wide_images(50, 1)
    tracemalloc.start()
    kmeans(flat_pixels, train, scored, clusters=3, settings=KMeansSettings(restarts=1, exact_up_to=exact_up_to), seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    once = 6000 * 768 * 4
    assert peak < (2.1 * once if exact_up_to > 1 else 0.4 * once)


def test_vectors_of_images_are_never_computed_for_more_than_a_chunk(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 10 * 4 * 768)
    seen = []

    def vectors(given):
        seen.append(len(given))
        return flat_pixels(given)

    train, scored = wide_images(35, 0), wide_images(21, 1)
    kmeans(vectors, train, scored, clusters=3, settings=KMeansSettings(restarts=1), seed=0)
    assert seen == [1, 10, 10, 10, 5, 10, 10, 1]
