import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.objectives.mixmatch import mixmatch, sharpen


def distributions(*shape, seed):
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(dim=-1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.1, 2.0))
def test_sharpen_equals_eq_7_by_loops(seed, temperature):
    probability = distributions(3, 5, seed=seed)
    sharp = sharpen(probability, temperature=temperature)
    for i, p in enumerate(probability.tolist()):
        total = sum(p[j] ** (1 / temperature) for j in range(5))
        assert sharp[i].tolist() == pytest.approx([p[j] ** (1 / temperature) / total for j in range(5)], abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.1, 0.99))
def test_sharpening_lowers_entropy_and_keeps_the_order(seed, temperature):
    probability = distributions(4, 6, seed=seed)
    sharp = sharpen(probability, temperature=temperature)
    torch.testing.assert_close(sharp.sum(dim=1), torch.ones(4))
    entropy, before = (torch.special.entr(p).sum(dim=1) for p in (sharp, probability))
    assert (entropy <= before + 1e-5).all()
    assert torch.equal(sharp.argmax(dim=1), probability.argmax(dim=1))


def test_sharpen_known_values():
    p = torch.tensor([[0.5, 0.3, 0.2]])
    torch.testing.assert_close(sharpen(p, temperature=1.0), p)
    torch.testing.assert_close(sharpen(p, temperature=1e-3), torch.tensor([[1.0, 0.0, 0.0]]))
    uniform = torch.full((1, 1000), 1e-3)
    torch.testing.assert_close(sharpen(uniform, temperature=0.05), uniform)  # 1e-3 ** 20 is no float32
    assert not sharpen(p.requires_grad_(), temperature=0.5).requires_grad


def test_each_row_is_sharpened_by_itself_in_any_shape():
    one_hot, uniform = torch.eye(1000)[:1], torch.full((1, 1000), 1e-3)
    both = torch.cat([one_hot, uniform])  # 1e-3 ** 20 is no float32, also beside a larger row
    torch.testing.assert_close(sharpen(both, temperature=0.05), both)
    p = distributions(2, 3, 4, seed=0)
    torch.testing.assert_close(
        sharpen(p, temperature=0.5), sharpen(p.flatten(0, 1), temperature=0.5).view(2, 3, 4), rtol=1e-6, atol=0
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), labelled=st.integers(1, 5), unlabelled=st.integers(1, 5))
def test_equals_eq_3_and_4_by_loops(seed, labelled, unlabelled):
    classes = 4
    generator = torch.Generator().manual_seed(seed)
    x, u = (
        2 * torch.randn(labelled, classes, generator=generator),
        torch.randn(unlabelled, classes, generator=generator),
    )
    p, q = distributions(labelled, classes, seed=seed + 1), distributions(unlabelled, classes, seed=seed + 2)
    log_x, prob_u = x.log_softmax(dim=1).tolist(), u.softmax(dim=1).tolist()
    eq_3 = -sum(float(p[i][k]) * log_x[i][k] for i in range(labelled) for k in range(classes)) / labelled
    squares = [(float(q[i][k]) - prob_u[i][k]) ** 2 for i in range(unlabelled) for k in range(classes)]
    terms = mixmatch(x, p, u, q)
    assert terms["labelled"].item() == pytest.approx(eq_3, rel=1e-4)
    assert terms["unlabelled"].item() == pytest.approx(sum(squares) / (classes * unlabelled), rel=1e-4, abs=1e-7)


def test_known_values():
    uniform, one_hot = torch.zeros(10, 10), torch.eye(10)
    terms = mixmatch(uniform, one_hot, uniform, one_hot)
    assert terms["labelled"].item() == pytest.approx(math.log(10))
    assert terms["unlabelled"].item() == pytest.approx((1 - 1 / 10) / 10)
    terms = mixmatch(100 * one_hot, one_hot, 100 * one_hot, one_hot)
    assert [term.item() for term in terms.values()] == pytest.approx([0, 0], abs=1e-6)
    worst = mixmatch(uniform, one_hot, 100 * one_hot, one_hot.roll(1, 0))["unlabelled"]
    assert worst.item() == pytest.approx(2 / 10)  # bounded, however sure and wrong


def test_computes_in_float32_and_gives_targets_no_gradient():
    logits = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.full((2, 2, 3), 1 / 3, requires_grad=True)
    terms = mixmatch(logits, targets[0], logits, targets[1])
    sum(terms.values()).backward()
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert targets.grad is None
    assert logits.grad is not None
