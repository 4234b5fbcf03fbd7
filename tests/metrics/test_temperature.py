import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from sslpipe.metrics.temperature import temperature_of


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3), classes=st.integers(2, 12), share=st.floats(0.02, 0.98))
def test_the_mean_confidence_is_the_one_asked_for(seed, scale, classes, share):
    scores = scale * np.random.default_rng(seed).standard_normal((40, classes))
    wanted = 1 / classes + share * (0.99 - 1 / classes)
    found = temperature_of(scores, wanted)
    assert softmax(scores / found, axis=1).max(axis=1).mean() == pytest.approx(wanted, abs=1e-3)
    assert temperature_of(3 * scores, wanted) == pytest.approx(3 * found, rel=1e-3)


def test_impossible_confidences_are_limited_and_equal_scores_have_one():
    scores = np.random.default_rng(0).standard_normal((40, 4))
    assert softmax(scores / temperature_of(scores, 1.0), axis=1).max(axis=1).mean() == pytest.approx(0.99)
    assert 0.25 < softmax(scores / temperature_of(scores, 0.0), axis=1).max(axis=1).mean() < 0.27
    assert temperature_of(np.ones((5, 3)), 0.5) == 1.0
