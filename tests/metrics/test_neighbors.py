"""The k-nearest-neighbour vote, by loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.metrics.neighbors import knn_accuracy, vote_size


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), images=st.integers(1, 8), votes=st.integers(1, 5), temperature=st.floats(0.05, 1.0))
def test_knn_accuracy_equals_the_vote_by_loops(seed, images, votes, temperature):
    """Wu et al. 2018, section 3.4: class c gets the sum of exp(s_i / τ) over neighbours of class c."""
    random = np.random.default_rng(seed)
    similarity, theirs = random.uniform(-1, 1, (images, votes)), random.integers(-1, 3, (images, votes))
    label = random.integers(-1, 3, images)
    right = []
    for row, classes, own in zip(similarity, theirs, label, strict=True):
        total = [0.0, 0.0, 0.0]
        for s, c in zip(row, classes, strict=True):
            if c >= 0:
                total[c] += math.exp(s / temperature)
        if own >= 0:
            right.append(max(total) > 0 and int(np.argmax(total)) == own)
    result = knn_accuracy(similarity, theirs, label, temperature=temperature)
    assert np.isnan(result) if not right else result == pytest.approx(sum(right) / len(right))


def test_the_published_vote_is_200_where_classes_are_large_enough():
    assert vote_size(45_000, 10) == 200
    assert vote_size(135, 10) == 6
    assert vote_size(3, 10) == 1
