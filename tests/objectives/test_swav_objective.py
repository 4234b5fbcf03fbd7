import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.objectives.swav import sinkhorn, swapped_prediction


def cosines(images, prototypes, seed):
    return 2 * torch.rand(images, prototypes, generator=torch.Generator().manual_seed(seed)) - 1


def sinkhorn_by_loops(scores, epsilon, iterations):
    """SwAV, appendix A: Q [K, B] = exp(scores / ε) to sum 1; rows to 1/K, then columns to 1/B, in turn; times B."""
    images, prototypes = len(scores), len(scores[0])
    Q = [[math.exp(scores[b][k] / epsilon) for b in range(images)] for k in range(prototypes)]
    total = sum(map(sum, Q))
    Q = [[q / total for q in row] for row in Q]
    for _ in range(iterations):
        for k in range(prototypes):
            row = sum(Q[k])
            Q[k] = [q / row / prototypes for q in Q[k]]
        for b in range(images):
            column = sum(Q[k][b] for k in range(prototypes))
            for k in range(prototypes):
                Q[k][b] /= column * images
    return [[Q[k][b] * images for k in range(prototypes)] for b in range(images)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), epsilon=st.floats(0.03, 1.0), iterations=st.integers(1, 5))
def test_sinkhorn_equals_the_paper_by_loops(seed, epsilon, iterations):
    scores = cosines(6, 4, seed)
    expected = torch.tensor(sinkhorn_by_loops(scores.tolist(), epsilon, iterations))
    torch.testing.assert_close(sinkhorn(scores, epsilon=epsilon, iterations=iterations), expected, rtol=1e-3, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), epsilon=st.floats(0.01, 1.0), iterations=st.integers(1, 5))
def test_every_image_is_assigned_once_whatever_the_scores(seed, epsilon, iterations):
    assignment = sinkhorn(cosines(8, 5, seed), epsilon=epsilon, iterations=iterations)
    assert assignment.isfinite().all()
    assert (assignment >= 0).all()
    torch.testing.assert_close(assignment.sum(dim=1), torch.ones(8))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), images=st.integers(2, 12), prototypes=st.integers(2, 6))
def test_the_marginals_converge(seed, images, prototypes):
    scores = cosines(images, prototypes, seed)
    off = [
        (sinkhorn(scores, epsilon=0.5, iterations=n).sum(dim=0) - images / prototypes).abs().max() for n in (1, 3, 50)
    ]
    assert off[2] < 1e-3
    assert off[1] <= off[0] + 1e-5


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), constant=st.floats(-3, 3))
def test_sinkhorn_knows_no_constant_and_no_order(seed, constant):
    scores = cosines(7, 4, seed)
    assignment = sinkhorn(scores, epsilon=0.05, iterations=3)
    torch.testing.assert_close(
        sinkhorn(scores + constant, epsilon=0.05, iterations=3), assignment, rtol=1e-3, atol=1e-4
    )
    generator = torch.Generator().manual_seed(seed)
    images, prototypes = torch.randperm(7, generator=generator), torch.randperm(4, generator=generator)
    shuffled = sinkhorn(scores[images][:, prototypes], epsilon=0.05, iterations=3)
    torch.testing.assert_close(shuffled, assignment[images][:, prototypes])


def test_sinkhorn_known_values():
    uniform = sinkhorn(torch.full((6, 4), 0.7), epsilon=0.05, iterations=3)
    torch.testing.assert_close(uniform, torch.full((6, 4), 1 / 4))
    groups = torch.eye(4).repeat(2, 1)
    torch.testing.assert_close(sinkhorn(groups, epsilon=0.01, iterations=3), groups)
    # All images prefer the first prototype, three of the four by less: one keeps it.
    scores = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.5, 0.3], [0.5, 0.3]])
    balanced = sinkhorn(scores, epsilon=0.01, iterations=100)
    assert balanced.argmax(dim=1).tolist() == [0, 0, 1, 1]


def test_sinkhorn_stands_scores_that_leave_float32():
    """exp(1 / 0.01) is no float32, and beside exp(0.9 / 0.01) a whole row of exp(-0.9 / 0.01) is nothing in it."""
    scores = torch.tensor([[1.0, 0.875], [-1.0, -0.875]], dtype=torch.bfloat16, requires_grad=True)
    assignment = sinkhorn(scores, epsilon=0.01, iterations=3)
    assert assignment.dtype == torch.float32
    assert not assignment.requires_grad
    torch.testing.assert_close(assignment, torch.tensor(sinkhorn_by_loops(scores.tolist(), 0.01, 3)))


def swapped_by_loops(assignments, logits):
    """SwAV, eq. 2 and its multi-crop form: every global view's assignment is predicted from every other view."""
    terms = []
    for g, assignment in enumerate(assignments):
        for v, view in enumerate(logits):
            if v != g:
                log_p = view.log_softmax(dim=1)
                terms += [-sum(float(q * lp) for q, lp in zip(assignment[b], log_p[b], strict=True)) for b in range(3)]
    return sum(terms) / len(terms)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), views=st.integers(2, 5))
def test_swapped_prediction_equals_the_paper_by_loops(seed, views):
    generator = torch.Generator().manual_seed(seed)
    logits = list(torch.randn(views, 3, 4, generator=generator))
    assignments = torch.randn(2, 3, 4, generator=generator).softmax(dim=-1)
    expected = swapped_by_loops(assignments, logits)
    assert swapped_prediction(assignments, logits).item() == pytest.approx(expected, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_swapped_prediction_knows_neither_the_order_of_global_nor_of_local_views(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b, c, d = torch.randn(4, 3, 5, generator=generator)
    assignments = torch.randn(2, 3, 5, generator=generator).softmax(dim=-1)
    loss = swapped_prediction(assignments, [a, b, c, d])
    torch.testing.assert_close(swapped_prediction(assignments.flip(0), [b, a, d, c]), loss)


@pytest.mark.parametrize("prototypes", [10, 512])
def test_swapped_prediction_known_values(prototypes):
    assignments = torch.eye(prototypes)[:3].expand(2, 3, prototypes)
    uniform = [torch.zeros(3, prototypes)] * 4
    assert swapped_prediction(assignments, uniform).item() == pytest.approx(math.log(prototypes), rel=1e-5)
    assert swapped_prediction(assignments, [100 * assignments[0]] * 4).item() == pytest.approx(0, abs=1e-6)


def test_a_view_does_not_learn_its_own_assignment_nor_do_assignments_learn():
    assignments = torch.full((1, 2, 3), 1 / 3, requires_grad=True)
    own = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    other = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    loss = swapped_prediction(assignments, [own, other])
    loss.backward()
    assert loss.dtype == torch.float32
    assert assignments.grad is None
    assert own.grad.abs().sum() == 0
    assert other.grad is not None
