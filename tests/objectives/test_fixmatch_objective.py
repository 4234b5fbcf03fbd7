import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.objectives.fixmatch import fixmatch


def by_loops(weak, strong, threshold, normalize_by):
    """FixMatch, eq. 4; with normalize_by "confident", L_u of the alternation paper."""
    losses = []
    for q, log_p in zip(weak.softmax(dim=1).tolist(), strong.log_softmax(dim=1).tolist(), strict=True):
        if max(q) >= threshold:
            losses.append(-log_p[q.index(max(q))])
    divisor = len(weak) if normalize_by == "batch" else max(len(losses), 1)
    return sum(losses) / divisor, len(losses) / len(weak)


@pytest.mark.parametrize("normalize_by", ["batch", "confident"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), threshold=st.floats(0.2, 0.999))
def test_equals_the_papers_by_loops(normalize_by, seed, threshold):
    weak, strong = 3 * torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(seed))
    terms = fixmatch(weak, strong, threshold=threshold, normalize_by=normalize_by)
    loss, confident = by_loops(weak, strong, threshold, normalize_by)
    assert terms["loss"].item() == pytest.approx(loss, rel=1e-4, abs=1e-6)
    assert terms["confident"].item() == pytest.approx(confident)


def test_the_threshold_itself_is_confident():
    half = torch.zeros(1, 2)
    assert fixmatch(half, half, threshold=0.5)["confident"].item() == 1
    assert fixmatch(half, half, threshold=0.5 + 1e-6)["confident"].item() == 0


def test_known_values():
    sure = 100 * torch.eye(10)
    assert fixmatch(sure, sure, threshold=0.95)["loss"].item() == pytest.approx(0, abs=1e-6)
    uniform = torch.zeros(10, 10)
    assert fixmatch(sure, uniform, threshold=0.95)["loss"].item() == pytest.approx(math.log(10))
    # One image in ten is sure: its loss counts a tenth over the batch, and whole over the confident ones.
    one = torch.cat([sure[:1], uniform[1:]])
    assert fixmatch(one, uniform, threshold=0.95)["loss"].item() == pytest.approx(math.log(10) / 10)
    confident = fixmatch(one, uniform, threshold=0.95, normalize_by="confident")
    assert confident["loss"].item() == pytest.approx(math.log(10))


@pytest.mark.parametrize("normalize_by", ["batch", "confident"])
def test_nothing_confident_is_nothing_to_learn(normalize_by):
    strong = torch.zeros(5, 3, requires_grad=True)
    terms = fixmatch(torch.zeros(5, 3), strong, threshold=0.95, normalize_by=normalize_by)
    terms["loss"].backward()
    assert terms["loss"].item() == terms["confident"].item() == 0
    assert strong.grad.abs().sum() == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_knows_neither_the_order_of_images_nor_the_names_of_classes(seed):
    generator = torch.Generator().manual_seed(seed)
    weak, strong = 3 * torch.randn(2, 8, 4, generator=generator)
    images, classes = torch.randperm(8, generator=generator), torch.randperm(4, generator=generator)
    terms = fixmatch(weak, strong, threshold=0.7)
    again = fixmatch(weak[images][:, classes], strong[images][:, classes], threshold=0.7)
    torch.testing.assert_close(again, terms)


def test_weak_views_get_no_gradient_and_aligned_predictions_may_hold_zeros():
    weak = torch.tensor([[1.0, 0.0, 0.0]]).log().requires_grad_()
    strong = torch.zeros(1, 3, dtype=torch.bfloat16, requires_grad=True)
    terms = fixmatch(weak, strong, threshold=0.95)
    terms["loss"].backward()
    assert terms["loss"].dtype == torch.float32
    assert terms["loss"].item() == pytest.approx(math.log(3))
    assert weak.grad is None
    assert strong.grad.isfinite().all()
