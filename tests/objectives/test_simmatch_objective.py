import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sslpipe.objectives.simmatch import propagate, similarities, simmatch

BANK_LABELS = torch.tensor([0, 2, 1, 0, 2, 2, 1])


def random(seed, images=4, classes=3):
    """p and q of images, and of their strong views logits and q; the bank's labels are BANK_LABELS."""
    generator = torch.Generator().manual_seed(seed)
    p, logits = 2 * torch.randn(2, images, classes, generator=generator)
    q, strong_q = (2 * torch.randn(2, images, len(BANK_LABELS), generator=generator)).softmax(dim=-1)
    return p.softmax(dim=1), q, logits, strong_q


def unit_rows(count, length, generator):
    return F.normalize(torch.randn(count, length, generator=generator), dim=1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.05, 1.0))
def test_similarities_equal_eq_3_by_loops(seed, temperature):
    generator = torch.Generator().manual_seed(seed)
    embedding, bank = torch.randn(3, 5, generator=generator), unit_rows(6, 5, generator)
    q = similarities(embedding, bank, temperature=temperature)
    for b in range(3):
        sim = [float(embedding[b] @ bank[i] / (embedding[b].norm() * bank[i].norm())) for i in range(6)]
        weights = [math.exp(s / temperature) for s in sim]
        assert q[b].tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-3, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0))
def test_similarities_know_neither_the_length_of_an_embedding_nor_rotations(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    embedding, bank = torch.randn(3, 4, generator=generator), unit_rows(6, 4, generator)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator))
    q = similarities(embedding, bank, temperature=0.1)
    for other in ((scale * embedding, bank), (embedding @ rotation, bank @ rotation)):
        torch.testing.assert_close(similarities(*other, temperature=0.1), q, rtol=1e-3, atol=1e-5)


def test_similarities_are_float32_under_autocast_too():
    generator = torch.Generator().manual_seed(0)
    embedding, bank = torch.randn(3, 8, generator=generator), unit_rows(6, 8, generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = similarities(embedding, bank, temperature=0.1)
    torch.testing.assert_close(q, similarities(embedding, bank, temperature=0.1))


def propagate_by_loops(p, q, labels, alpha):
    """Eq. 7 to 10 for one image."""
    unfolded = [p[labels[j]] for j in range(len(q))]
    total = sum(q[k] * unfolded[k] for k in range(len(q)))
    q_hat = [q[i] * unfolded[i] / total for i in range(len(q))]
    aggregated = [sum(q[j] for j in range(len(q)) if labels[j] == i) for i in range(len(p))]
    return [alpha * p[i] + (1 - alpha) * aggregated[i] for i in range(len(p))], q_hat


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), alpha=st.floats(0, 1))
def test_propagate_equals_eq_7_to_10_by_loops(seed, alpha):
    p, q, _, _ = random(seed)
    p_hat, q_hat = propagate(p, q, BANK_LABELS, alpha=alpha)
    for b in range(len(p)):
        expected = propagate_by_loops(p[b].tolist(), q[b].tolist(), BANK_LABELS.tolist(), alpha)
        assert p_hat[b].tolist() == pytest.approx(expected[0], abs=1e-5)
        assert q_hat[b].tolist() == pytest.approx(expected[1], abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), alpha=st.floats(0, 1))
def test_propagated_targets_are_distributions_and_know_no_order_of_the_bank(seed, alpha):
    p, q, _, _ = random(seed)
    p_hat, q_hat = propagate(p, q, BANK_LABELS, alpha=alpha)
    for target in (p_hat, q_hat):
        torch.testing.assert_close(target.sum(dim=1), torch.ones(len(p)))
    order = torch.randperm(len(BANK_LABELS), generator=torch.Generator().manual_seed(seed))
    again = propagate(p, q[:, order], BANK_LABELS[order], alpha=alpha)
    torch.testing.assert_close(again, (p_hat, q_hat[:, order]))


def test_propagate_known_values():
    p, q, _, _ = random(0)
    torch.testing.assert_close(propagate(p, q, BANK_LABELS, alpha=1.0)[0], p)
    uniform = torch.full_like(p, 1 / 3)
    torch.testing.assert_close(propagate(uniform, q, BANK_LABELS, alpha=0.9)[1], q)
    # A bank with one image a class, in order, is a second opinion on classes.
    agreed, sharper = propagate(p, p, torch.arange(3), alpha=0.5)
    torch.testing.assert_close(agreed, p)
    torch.testing.assert_close(sharper, p**2 / (p**2).sum(dim=1, keepdim=True))
    # Opinions that share nothing: half each, and no instance target.
    p_hat, q_hat = propagate(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.arange(2), alpha=0.5)
    assert p_hat.tolist() == [[0.5, 0.5]]
    assert q_hat.tolist() == [[0.0, 0.0]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), threshold=st.floats(0.3, 0.95))
def test_terms_equal_eq_2_and_5_by_loops(seed, threshold):
    p_hat, q_hat, logits, strong_q = random(seed)
    log_p = logits.log_softmax(dim=1).tolist()
    semantic = instance = kept = 0.0
    for b in range(4):
        if max(p_hat[b].tolist()) > threshold:
            kept += 1 / 4
            semantic -= sum(float(p_hat[b, i]) * log_p[b][i] for i in range(3)) / 4
        instance -= sum(float(q_hat[b, k]) * math.log(float(strong_q[b, k])) for k in range(7)) / 4
    terms = simmatch(p_hat, q_hat, logits, strong_q, threshold=threshold)
    assert terms["semantic"].item() == pytest.approx(semantic, rel=1e-4, abs=1e-6)
    assert terms["instance"].item() == pytest.approx(instance, rel=1e-4)
    assert terms["confident"].item() == pytest.approx(kept)


def test_known_values():
    p_hat, q_hat = torch.eye(5), torch.eye(5, 20)
    terms = simmatch(p_hat, q_hat, torch.zeros(5, 5), torch.full((5, 20), 1 / 20), threshold=0.95)
    assert terms["semantic"].item() == pytest.approx(math.log(5))
    assert terms["instance"].item() == pytest.approx(math.log(20), rel=1e-5)
    terms = simmatch(p_hat, q_hat, 100 * p_hat, q_hat, threshold=0.95)
    assert [term.item() for term in terms.values()] == pytest.approx([0, 0, 1], abs=1e-6)


def test_the_least_likely_bank_row_leaves_the_gradient_finite():
    embedding = torch.tensor([[1.0, 0.0]], requires_grad=True)
    q = similarities(embedding, F.normalize(torch.tensor([[1.0, 0.1], [-1.0, 0.1]]), dim=1), temperature=0.01)
    assert q[0, 1].item() == 0
    terms = simmatch(torch.ones(1, 1), torch.tensor([[0.0, 1.0]]), torch.zeros(1, 1), q, threshold=0.5)
    terms["instance"].backward()
    assert terms["instance"].isfinite()
    assert embedding.grad.isfinite().all()


def test_only_strong_views_learn_and_the_instance_term_is_not_masked():
    p, q, logits, strong_q = (value.requires_grad_() for value in random(0))
    p_hat, q_hat = propagate(p, q, BANK_LABELS, alpha=0.9)
    assert not p_hat.requires_grad
    assert not q_hat.requires_grad
    terms = simmatch(p_hat, q_hat, logits, strong_q, threshold=1.0)
    (terms["semantic"] + terms["instance"]).backward()
    assert terms["confident"].item() == 0
    assert p.grad is None
    assert q.grad is None
    assert logits.grad.abs().sum() == 0
    assert (strong_q.grad.abs().sum(dim=1) > 0).all()
