"""TEMI's loss against loops over the formulas of the paper, and its properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.temi import moved_marginal, temi


def softmax(logits):
    powers = [math.exp(value - max(logits)) for value in logits]
    return [power / sum(powers) for power in powers]


def temi_by_loops(student, teacher, marginal, beta):
    """Each head's loss, and the weight of each pair, with one probability at a time."""
    _, heads, pairs, clusters = student.shape
    p, q = (
        [[[softmax(row) for row in head] for head in side] for side in each.tolist()] for each in (student, teacher)
    )
    weights = [
        sum(q[0][h][i][k] * q[1][h][i][k] for h in range(heads) for k in range(clusters)) / heads for i in range(pairs)
    ]
    losses = []
    for h in range(heads):
        total = 0.0
        for i in range(pairs):
            ahead = sum((q[0][h][i][k] * p[1][h][i][k]) ** beta / float(marginal[h, k]) for k in range(clusters))
            back = sum((q[1][h][i][k] * p[0][h][i][k]) ** beta / float(marginal[h, k]) for k in range(clusters))
            total += weights[i] / 2 * (-math.log(ahead) - math.log(back))
        losses.append(total / pairs)
    return losses, weights


def example(seed, heads, pairs, clusters, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, 2, heads, pairs, clusters, generator=generator, dtype=torch.double)
    return student, teacher, torch.rand(heads, clusters, generator=generator, dtype=torch.double).add(0.05)


sizes = {
    "seed": st.integers(0, 1000),
    "heads": st.integers(1, 4),
    "pairs": st.integers(1, 5),
    "clusters": st.integers(2, 6),
}


@given(**sizes, beta=st.floats(0.1, 1))
def test_equals_the_formulas_by_loops(seed, heads, pairs, clusters, beta):
    student, teacher, marginal = example(seed, heads, pairs, clusters)
    found = temi(student, teacher, marginal, beta=beta)
    losses, weights = temi_by_loops(student, teacher, marginal, beta)
    assert found["loss"].tolist() == pytest.approx(losses, abs=1e-9)
    assert found["weight"].item() == pytest.approx(sum(weights) / pairs, abs=1e-9)


@given(**sizes, scale=st.floats(0, 30))
def test_weights_are_between_0_and_1_and_the_marginal_sums_to_1(seed, heads, pairs, clusters, scale):
    student, teacher, marginal = example(seed, heads, pairs, clusters, scale)
    for pair in range(pairs):
        one = slice(pair, pair + 1)
        assert 0 <= temi(student[:, :, one], teacher[:, :, one], marginal, beta=0.6)["weight"] <= 1 + 1e-12
    start = marginal / marginal.sum(dim=1, keepdim=True)
    moved = moved_marginal(start, teacher, momentum=0.9)
    torch.testing.assert_close(moved.sum(dim=1), torch.ones(heads, dtype=torch.double))
    probabilities = [softmax(row) for head in range(heads) for row in teacher[:, head].flatten(0, 1).tolist()]
    rows = torch.tensor(probabilities, dtype=torch.double).view(heads, 2 * pairs, clusters)
    torch.testing.assert_close(moved, 0.9 * start + 0.1 * rows.mean(dim=1))


@given(**sizes)
def test_neither_the_clusters_nor_the_heads_nor_the_sides_have_an_order(seed, heads, pairs, clusters):
    student, teacher, marginal = example(seed, heads, pairs, clusters)
    loss = temi(student, teacher, marginal, beta=0.6)["loss"]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(clusters, generator=generator)
    renamed = temi(student[..., order], teacher[..., order], marginal[:, order], beta=0.6)["loss"]
    torch.testing.assert_close(renamed, loss)
    order = torch.randperm(heads, generator=generator)
    torch.testing.assert_close(
        temi(student[:, order], teacher[:, order], marginal[order], beta=0.6)["loss"], loss[order]
    )
    torch.testing.assert_close(temi(student.flip(0), teacher.flip(0), marginal, beta=0.6)["loss"], loss)


@pytest.mark.parametrize("beta", [0.5, 0.6, 1.0])
@pytest.mark.parametrize("clusters", [2, 10])
def test_known_values(clusters, beta):
    uniform, even = torch.zeros(2, 3, 20, clusters), torch.full((3, clusters), 1 / clusters)
    found = temi(uniform, uniform, even, beta=beta)
    assert found["loss"].tolist() == pytest.approx([-(2 - 2 * beta) * math.log(clusters) / clusters] * 3, abs=1e-6)
    assert found["weight"].item() == pytest.approx(1 / clusters)
    perfect = 1000.0 * torch.eye(clusters).repeat(2, 1).expand(2, 3, -1, -1)
    found = temi(perfect, perfect, even, beta=beta)
    assert found["loss"].tolist() == pytest.approx([-math.log(clusters)] * 3)
    assert found["weight"].item() == pytest.approx(1)
    collapsed = perfect[:, :, :1]
    found = temi(collapsed, collapsed, torch.eye(clusters)[:1].expand(3, -1).clamp_min(1e-30), beta=beta)
    assert found["loss"].tolist() == pytest.approx([0.0] * 3, abs=1e-5)


def test_the_teacher_gets_no_gradient():
    student, teacher, marginal = example(0, 2, 3, 4)
    student.requires_grad_()
    teacher.requires_grad_()
    temi(student, teacher, marginal, beta=0.6)["loss"].sum().backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert not moved_marginal(marginal, teacher, momentum=0.9).requires_grad
