import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.moco import info_nce


def info_nce_by_loops(query, key, queue, temperature):
    """MoCo, eq. 1: the sum in the denominator is over one positive and K negatives."""

    def cosine(a, b):
        return float(a @ b / (a.norm() * b.norm()))

    total = 0.0
    for q, k in zip(query, key, strict=True):
        positive = math.exp(cosine(q, k) / temperature)
        total -= math.log(positive / (positive + sum(math.exp(cosine(q, other) / temperature) for other in queue)))
    return total / len(query)


@given(seed=st.integers(0, 1000), batch=st.integers(1, 5), rows=st.integers(1, 9), temperature=st.floats(0.1, 2.0))
def test_equals_the_paper_by_loops(seed, batch, rows, temperature):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, batch, 5, generator=generator)
    queue = torch.randn(rows, 5, generator=generator)
    expected = info_nce_by_loops(query, key, queue, temperature)
    assert info_nce(query, key, queue, temperature=temperature).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0))
def test_knows_neither_lengths_nor_the_order_of_the_queue_nor_rotations(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, 4, 5, generator=generator)
    queue = torch.randn(7, 5, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator))
    loss = info_nce(query, key, queue, temperature=0.3)
    order = torch.randperm(7, generator=generator)
    for other in ((scale * query, key, queue), (query, key, queue[order]), (query @ turn, key @ turn, queue @ turn)):
        torch.testing.assert_close(info_nce(*other, temperature=0.3), loss, rtol=1e-4, atol=1e-5)


def test_known_values():
    same = torch.ones(3, 4)
    assert info_nce(same, same, torch.ones(4095, 4), temperature=0.2).item() == pytest.approx(math.log(4096))
    axes = torch.eye(8)
    assert info_nce(axes[:4], axes[:4], axes[4:], temperature=0.05).item() < 1e-6
    assert info_nce(axes[:4], axes[4:], axes[:4], temperature=0.05).item() == pytest.approx(20, rel=1e-3)


def test_only_the_query_learns():
    query, key, queue = (torch.randn(4, 5, requires_grad=True) for _ in range(3))
    info_nce(query, key, queue, temperature=0.2).backward()
    assert query.grad.abs().sum() > 0
    assert key.grad is None
    assert queue.grad is None
