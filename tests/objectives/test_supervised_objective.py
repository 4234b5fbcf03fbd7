import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.objectives.supervised import cross_entropy, multi_task


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), smoothing=st.floats(0, 0.9))
def test_equals_smoothed_targets_by_loops(seed, smoothing):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4, 5, generator=generator)
    label = torch.randint(5, (4,), generator=generator)
    log_p = logits.log_softmax(dim=1).tolist()
    expected = 0.0
    for i in range(4):
        for k in range(5):
            target = (1 - smoothing) * (k == int(label[i])) + smoothing / 5
            expected -= target * log_p[i][k] / 4
    assert cross_entropy(logits, label, smoothing=smoothing).item() == pytest.approx(expected, rel=1e-4)
    probabilities = torch.eye(5, dtype=torch.float64)[label]
    assert cross_entropy(logits, probabilities, smoothing=smoothing).item() == pytest.approx(expected, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_is_linear_in_the_target_as_mixup_wants(seed, share):
    generator = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(6, 4, generator=generator), torch.randint(4, (2, 6), generator=generator)
    first, second = torch.eye(4)[labels]
    mixed = cross_entropy(logits, share * first + (1 - share) * second)
    apart = share * cross_entropy(logits, labels[0]) + (1 - share) * cross_entropy(logits, labels[1])
    torch.testing.assert_close(mixed, apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_known_values(smoothing):
    label = torch.arange(10)
    assert cross_entropy(torch.zeros(10, 10), label, smoothing=smoothing).item() == pytest.approx(math.log(10))
    assert cross_entropy(100 * torch.eye(10), label).item() == pytest.approx(0, abs=1e-6)
    # The best answer to a smoothed target is the target, and its cost the target's entropy.
    target = (1 - smoothing) * torch.eye(10) + smoothing / 10
    best = cross_entropy((target + 1e-30).log(), label, smoothing=smoothing)
    torch.testing.assert_close(best, torch.special.entr(target).sum(dim=1).mean(), rtol=1e-4, atol=1e-5)


def test_computes_in_float32_and_gives_the_target_no_gradient():
    logits = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    target = torch.full((2, 3), 1 / 3, requires_grad=True)
    loss = cross_entropy(logits, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert target.grad is None
    assert logits.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_targets_of_another_precision_are_those_in_float32(dtype):
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(3, 4, generator=generator), torch.rand(3, 4, generator=generator).softmax(1).to(dtype)
    loss = cross_entropy(logits, target, smoothing=0.1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, cross_entropy(logits, target.float(), smoothing=0.1))


def test_suave_weights_every_prediction_alike():
    """256 unlabelled images in 2 + 8 views, 128 labelled ones doubled by Mixup, and 256 x 2 mixed global views."""
    counts = [256 * (2 + 8), 128 * 2, 256 * 2]
    losses = [torch.tensor(value, requires_grad=True) for value in (1.0, 2.0, 4.0)]
    total = multi_task(losses, counts)
    assert total.item() == pytest.approx((2560 * 1 + 256 * 2 + 512 * 4) / 3328)
    total.backward()
    weights = [loss.grad.item() for loss in losses]
    assert weights == pytest.approx([2560 / 3328, 256 / 3328, 512 / 3328])
    # The public code counts mixed views (1 a process) in place of images times views and so switches that term off.
    assert weights[2] > 100 * 1 / (2560 + 256 + 1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), counts=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_multi_task_is_the_loss_of_the_concatenated_predictions(seed, counts):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(sum(counts), 3, generator=generator)
    label = torch.randint(3, (sum(counts),), generator=generator)
    parts = zip(logits.split(counts), label.split(counts), strict=True)
    torch.testing.assert_close(
        multi_task([cross_entropy(*part) for part in parts], counts), cross_entropy(logits, label)
    )
