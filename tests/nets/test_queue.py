import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.nets.queue import EmbeddingQueue


@given(length=st.integers(0, 12), batch=st.integers(1, 15), steps=st.integers(0, 6))
def test_it_holds_the_latest_rows_whatever_the_sizes(length, batch, steps):
    queue = EmbeddingQueue(length, 2)
    pushed = torch.arange(1.0, 2 * batch * steps + 1).view(-1, batch, 2)
    for step, rows in enumerate(pushed):
        queue.push(rows, step)
    expected = [tuple(row) for row in pushed.reshape(-1, 2).tolist()][-length:] if length else []
    held = {tuple(row) for row in queue.rows.tolist()} - {(0.0, 0.0)}
    assert held == set(expected)
    assert queue.is_full(steps, batch) == (length > 0 and len(expected) == length)


def test_rows_may_have_any_shape_and_go_with_the_state():
    queue = EmbeddingQueue(4, 2, 3)
    queue.push(torch.ones(3, 2, 3), 0)
    assert queue.state_dict()["rows"].shape == (4, 2, 3)
    assert queue.rows.sum() == pytest.approx(18)
