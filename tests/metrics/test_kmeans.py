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
        return fitted[-1]

    first, again, other = sample(0), sample(0), sample(1)
    assert len(first) == 30
    assert len(np.unique(first, axis=0)) == 30
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
