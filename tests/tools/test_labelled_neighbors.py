import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.tools import labelled_neighbors
from sslpipe.tools.labelled_neighbors import find

CPU = torch.device("cpu")


@given(
    seed=st.integers(0, 1000),
    first=st.integers(6, 60),
    added=st.lists(st.integers(0, 20), max_size=4),
    copies=st.booleans(),
    k=st.integers(1, 5),
)
def test_images_that_are_added_have_the_neighbours_of_a_whole_search(seed, first, added, copies, k):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(160, 8)).astype(np.float32)
    if copies:
        vectors = vectors[rng.integers(12, size=160)]
    order, last, count = rng.permutation(160), None, first
    for more in (0, *added):
        count += more
        image = np.sort(order[:count])
        last = find(vectors, image, k, CPU, last)
        index, cosine = nearest_neighbors(vectors[image], k=k)
        np.testing.assert_allclose(last.cosine, cosine, atol=1e-6)
        assert not (last.index == np.arange(count)[:, None]).any()
        if not copies:
            np.testing.assert_array_equal(last.index, index)
        assert all(len(set(row)) == k for row in last.index.tolist())


@pytest.mark.parametrize("now", [[0, 1, 2, 3, 4, 6], [1, 2, 3, 4, 5], range(20)])
def test_after_an_undo_or_many_answers_all_are_searched(now, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    last = find(vectors, np.arange(6), 3, CPU)
    monkeypatch.setattr(labelled_neighbors, "nearest_in", None)
    found = find(vectors, np.array(now), 3, CPU, last)
    np.testing.assert_array_equal(found.index, nearest_neighbors(vectors[list(now)], k=3)[0])
    assert find(vectors, np.array(now), 3, CPU, found) is found
