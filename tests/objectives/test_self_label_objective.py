import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.self_label import confident_cross_entropy


def by_loops(target_logits, logits, threshold, balance):
    """Section 2.3: threshold, hard label, cross-entropy weighted by the inverse of the class's count."""
    kept = []
    for target, answer in zip(target_logits.softmax(dim=1).tolist(), logits.log_softmax(dim=1).tolist(), strict=True):
        if max(target) > threshold:
            label = target.index(max(target))
            kept.append((label, -answer[label]))
    if not kept:
        return 0.0, 0
    labels = [label for label, _ in kept]
    weights = [1 / labels.count(label) if balance else 1.0 for label in labels]
    return sum(w * loss for w, (_, loss) in zip(weights, kept, strict=True)) / sum(weights), len(kept)


@given(seed=st.integers(0, 1000), threshold=st.floats(0.2, 0.99), balance=st.booleans())
def test_equals_the_paper_by_loops(seed, threshold, balance):
    target, logits = 3 * torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(seed))
    terms = confident_cross_entropy(target, logits, threshold=threshold, balance=balance)
    loss, confident = by_loops(target, logits, threshold, balance)
    assert terms["loss"].item() == pytest.approx(loss, rel=1e-4, abs=1e-5)
    assert terms["confident"].item() == confident


def test_nothing_confident_is_nothing_to_learn():
    logits = torch.zeros(5, 3, requires_grad=True)
    terms = confident_cross_entropy(torch.zeros(5, 3), logits, threshold=0.99, balance=True)
    terms["loss"].backward()
    assert terms["loss"].item() == 0
    assert logits.grad.abs().sum() == 0


def test_every_class_that_is_present_has_the_same_say():
    target = 100 * torch.eye(3)[[0, 0, 0, 0, 1]]
    logits = torch.zeros(5, 3, requires_grad=True)
    confident_cross_entropy(target, logits, threshold=0.9, balance=True)["loss"].backward()
    gradient = logits.grad
    torch.testing.assert_close(gradient[:4].sum(dim=0)[0], gradient[4][1])


def test_the_target_gets_no_gradient():
    target, logits = (
        (torch.zeros(2, 3) + torch.tensor([9.0, 0, 0])).requires_grad_(),
        torch.zeros(2, 3, requires_grad=True),
    )
    confident_cross_entropy(target, logits, threshold=0.5, balance=False)["loss"].backward()
    assert target.grad is None
    assert logits.grad is not None
    assert math.isclose(logits.grad.sum().item(), 0.0, abs_tol=1e-6)
