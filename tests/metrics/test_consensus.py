from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.metrics.consensus import align_heads


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), heads=st.integers(1, 4), clusters=st.integers(2, 4), chunk=st.integers(1, 20))
def test_agrees_with_all_permutations(seed, heads, clusters, chunk):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(heads, 20, clusters, generator=generator)
    best = seed % heads
    found = align_heads(logits.split(chunk, dim=1), best)
    probability = logits.softmax(dim=2).double()
    for head in range(heads):

        def score(order, head=head):
            return sum(float((probability[head, :, o] * probability[best, :, k]).sum()) for k, o in enumerate(order))

        assert score(found[head].tolist()) == pytest.approx(max(map(score, permutations(range(clusters)))))
    assert found[best].tolist() == list(range(clusters))


def test_renamed_copies_of_a_head_are_named_back():
    base = 5 * torch.randn(50, 6)
    orders = [torch.randperm(6) for _ in range(3)]
    heads = torch.stack([base, *(base[:, order] for order in orders)])
    found = align_heads([heads], 0)
    for head, order in enumerate([torch.arange(6), *orders]):
        assert np.array_equal(found[head], order.argsort().numpy())


def test_no_chunk_is_refused():
    with pytest.raises(ValueError, match="no chunk"):
        align_heads([], 0)
