"""k-means starts again as often as it is asked to, and less often where that takes very long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from sslpipe.metrics import spectral, whitened_kmeans
from sslpipe.metrics.restarts import restarts_within
from sslpipe.metrics.spectral import SpectralSettings, spectral_groups
from sslpipe.metrics.whitened_kmeans import WhitenedKMeansSettings, fit_whitened_kmeans


@given(restarts=st.integers(1, 50), work=st.integers(1, 10**12), up_to=st.integers(1, 10**12))
def test_restarts_are_those_asked_for_or_as_many_as_fit_but_one_at_least(restarts, work, up_to):
    found = restarts_within(restarts, work, up_to)
    assert 1 <= found <= restarts
    assert found == 1 or found * work <= up_to
    assert found == restarts or (found + 1) * work > up_to


def neighbors(count=60, k=5):
    """Each image's neighbours lie in its third of the images."""
    random = np.random.default_rng(0)
    third = np.arange(count) // (count // 3) * (count // 3)
    return third[:, None] + random.integers(0, count // 3, (count, k))


@pytest.mark.parametrize(
    ("key", "module", "run", "work"),
    [
        (
            "cluster.spectral",
            spectral,
            lambda up_to, **more: spectral_groups(
                neighbors(), clusters=3, settings=SpectralSettings(restarts=4, all_restarts_up_to=up_to), seed=0, **more
            ),
            60 * 3 * 3,
        ),
        (
            "cluster.kmeans",
            whitened_kmeans,
            lambda up_to, **more: fit_whitened_kmeans(
                np.random.default_rng(0).standard_normal((60, 8), dtype=np.float32),
                clusters=3,
                settings=WhitenedKMeansSettings(restarts=4, all_restarts_up_to=up_to),
                seed=0,
                **more,
            ),
            60 * 3 * 3,
        ),
    ],
    ids=["spectral", "kmeans"],
)
def test_fewer_restarts_are_said_with_the_setting_that_runs_all(key, module, run, work, monkeypatch, capsys):
    asked = []

    class Watched(KMeans):
        def fit(self, *arguments, **named):
            asked.append(self.n_init)
            return super().fit(*arguments, **named)

    monkeypatch.setattr(module, "KMeans", Watched)
    run(4 * work, where=key)
    run(4 * work - 1)
    assert capsys.readouterr().out == ""
    run(4 * work - 1, where=key)
    out = " ".join(capsys.readouterr().out.split())
    assert asked == [4, 3, 3]
    assert f"runs 3 of 4 restarts; {key}.all_restarts_up_to: {4 * work} runs all" in out
