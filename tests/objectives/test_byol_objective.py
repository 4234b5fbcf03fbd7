import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.byol import regression


@given(seed=st.integers(0, 1000), batch=st.integers(1, 6))
def test_equals_the_paper_by_loops(seed, batch):
    """BYOL, eq. 2: the squared distance of the normalised prediction and the normalised target."""
    prediction, target = torch.randn(2, batch, 5, generator=torch.Generator().manual_seed(seed))
    expected = 0.0
    for q, z in zip(prediction.tolist(), target.tolist(), strict=True):
        q_length, z_length = sum(x * x for x in q) ** 0.5, sum(x * x for x in z) ** 0.5
        expected += sum((a / q_length - b / z_length) ** 2 for a, b in zip(q, z, strict=True)) / batch
    assert regression(prediction, target).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0))
def test_knows_no_lengths_and_lies_between_0_and_4(seed, scale):
    prediction, target = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed))
    loss = regression(prediction, target)
    assert 0 <= loss <= 4
    torch.testing.assert_close(regression(scale * prediction, target), loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(regression(target, prediction), loss, rtol=1e-4, atol=1e-5)


def test_known_values():
    axes = torch.eye(4)
    assert regression(axes, axes).item() == pytest.approx(0, abs=1e-6)
    assert regression(axes, axes.roll(1, 0)).item() == pytest.approx(2)
    assert regression(axes, -axes).item() == pytest.approx(4)
    assert regression(torch.ones(5, 4), torch.ones(5, 4)).item() == pytest.approx(0, abs=1e-6)  # collapse


def test_only_the_prediction_learns():
    prediction, target = (torch.randn(4, 5, requires_grad=True) for _ in range(2))
    regression(prediction, target).backward()
    assert prediction.grad.abs().sum() > 0
    assert target.grad is None
