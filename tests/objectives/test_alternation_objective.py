import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from sslpipe.objectives.alternation import assign_targets, clustering


def unit(*shape, seed):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def cost(outputs, targets, images, distance="squared"):
    """Eq. 4's sum for one assignment of targets to images, of squared distances or of distances."""
    power = {"squared": 1.0, "euclidean": 0.5}[distance]
    return sum(
        sum((float(outputs[image, k]) - (k == target)) ** 2 for k in range(outputs.shape[1])) ** power
        for target, image in zip(targets, images, strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    images=st.integers(1, 5),
    data=st.data(),
    distance=st.sampled_from(["squared", "euclidean"]),
)
def test_the_assignment_is_the_best_of_all_injections(seed, images, data, distance):
    targets = data.draw(st.lists(st.integers(0, 2), max_size=images))
    outputs = unit(images, 3, seed=seed)
    assigned = assign_targets(outputs, torch.tensor(targets, dtype=torch.int64), distance=distance).tolist()
    assert len(assigned) == len(set(assigned)) == len(targets)
    best = min(cost(outputs, targets, injection, distance) for injection in permutations(range(images), len(targets)))
    assert cost(outputs, targets, assigned, distance) == pytest.approx(best, abs=1e-5)


def test_distances_and_their_squares_may_be_least_for_other_assignments():
    # The first image is at its target. Squares: 0 + 2.4 or 2 + 0.2; distances: 0 + 1.55 or 1.41 + 0.45.
    outputs = torch.tensor([[1.0, 0.0, 0.0], [0.9, -0.2, 0.15**0.5]])
    assert assign_targets(outputs, torch.tensor([0, 1])).tolist() == [1, 0]
    assert assign_targets(outputs, torch.tensor([0, 1]), distance="euclidean").tolist() == [0, 1]


@pytest.mark.parametrize("targets", [448, 270])
@pytest.mark.parametrize("kind", ["random", "separated", "equal"])
def test_either_way_round_the_assignment_costs_the_same(kind, targets):
    generator = torch.Generator().manual_seed(0)
    outputs = {"random": 1.0, "separated": 0.3, "equal": 1e-2}[kind] * torch.randn(448, 10, generator=generator)
    outputs += {"random": 0.0, "separated": 2.0, "equal": 1.0}[kind] * (
        F.one_hot(torch.randint(10, (448,), generator=generator), 10) if kind == "separated" else 1
    )
    outputs = F.normalize(outputs, dim=1)
    wanted = torch.randint(10, (targets,), generator=generator)
    score = outputs[:, wanted].T.double().numpy()
    rows, columns = linear_sum_assignment(score, maximize=True)
    image = assign_targets(outputs, wanted).numpy()
    assert len(set(image.tolist())) == targets
    assert score[np.arange(targets), image].sum() == pytest.approx(score[rows, columns].sum(), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_assignment_follows_the_order_of_targets_and_images(seed):
    generator = torch.Generator().manual_seed(seed)
    outputs, targets = unit(8, 4, seed=seed), torch.tensor([0, 1, 2, 3])
    image = assign_targets(outputs, targets)
    order, shuffle = torch.randperm(4, generator=generator), torch.randperm(8, generator=generator)
    assert torch.equal(assign_targets(outputs, targets[order]), image[order])
    assert torch.equal(shuffle[assign_targets(outputs[shuffle], targets)], image)


def test_targets_are_exchanged_where_that_helps_both():
    outputs = torch.eye(3).bfloat16().requires_grad_()
    image = assign_targets(outputs, torch.tensor([2, 0, 1]))
    assert image.dtype == torch.int64
    assert image.tolist() == [2, 0, 1]
    # The first image wants target 0 most, yet gives way: both together are nearer so.
    outputs = F.normalize(torch.tensor([[1.0, 0.9], [1.0, -1.0]]), dim=1)
    assert assign_targets(outputs, torch.tensor([0, 1])).tolist() == [1, 0]


def test_what_is_not_a_number_is_assigned_and_shows_in_the_loss():
    outputs = torch.full((3, 3), float("nan"))
    image = assign_targets(outputs, torch.arange(3))
    assert sorted(image.tolist()) == [0, 1, 2]
    assert clustering(outputs, torch.arange(3), radius=0.2)["loss"].isnan()


def clustering_by_loops(copies, targets, radius, anchors, distance="squared"):
    """Section 3.1: pseudo-targets of confident images, and eq. 5; in the public code ρ bounds the distance itself."""
    r, images, clusters = copies.shape
    total, kept = 0.0, 0
    for i in range(images):
        target = int(targets[i])
        if target < 0:
            output = anchors[i].tolist()
            nearest = output.index(max(output))
            square = sum((output[k] - (k == nearest)) ** 2 for k in range(clusters))
            if {"squared": square, "euclidean": square**0.5}[distance] >= radius:
                continue
            target = nearest
        kept += 1
        for j in range(r):
            total += sum((float(copies[j, i, k]) - (k == target)) ** 2 for k in range(clusters))
    return total / (kept * r) if kept else 0.0, kept / images


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    copies=st.integers(1, 3),
    radius=st.floats(0.05, 1.5),
    default=st.booleans(),
    distance=st.sampled_from(["squared", "euclidean"]),
)
def test_equals_eq_5_by_loops(seed, copies, radius, default, distance):
    outputs, anchors = unit(copies, 7, 3, seed=seed), unit(7, 3, seed=seed + 1)
    targets = torch.randint(-1, 3, (7,), generator=torch.Generator().manual_seed(seed))
    given_anchors = None if default else anchors
    terms = clustering(outputs, targets, radius=radius, anchors=given_anchors, distance=distance)
    loss, kept = clustering_by_loops(outputs, targets, radius, outputs[0] if default else anchors, distance)
    assert terms["loss"].item() == pytest.approx(loss, rel=1e-4, abs=1e-6)
    assert terms["kept"].item() == pytest.approx(kept)


def test_a_mean_over_the_clusters_has_a_tenth_of_the_gradient_of_their_sum():
    outputs, targets, gradients = unit(3, 6, 10, seed=0).requires_grad_(), torch.tensor([4, -1, 0, 9, -1, 4]), []
    for reduction in ("sum", "mean"):
        loss = clustering(outputs, targets, radius=0.2, reduction=reduction)["loss"]
        gradients += torch.autograd.grad(loss, outputs)
    torch.testing.assert_close(gradients[1], gradients[0] / 10)
    # Three copies of four images, all elements averaged.
    kept = targets >= 0
    mean = F.mse_loss(outputs[:, kept], F.one_hot(targets[kept], 10).float().expand(3, 4, 10))
    torch.testing.assert_close(loss, mean)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_one_copy_needs_no_dimension_and_equal_copies_count_once(seed):
    outputs, targets = unit(5, 4, seed=seed), torch.tensor([0, -1, 3, -1, 2])
    terms = clustering(outputs, targets, radius=0.5)
    for copies in (1, 3):
        torch.testing.assert_close(clustering(outputs.expand(copies, 5, 4), targets, radius=0.5), terms)


def test_known_values():
    targets = torch.arange(10)
    assert clustering(torch.eye(10), targets, radius=0.2)["loss"].item() == 0
    equal = torch.full((10, 10), 1 / math.sqrt(10))
    assert clustering(equal, targets, radius=0.2)["loss"].item() == pytest.approx(2 - 2 / math.sqrt(10))
    assert clustering(torch.eye(10).roll(1, 0), targets, radius=0.2)["loss"].item() == pytest.approx(2)
    # An image on the way from one unit vector to another: its squared distance to the nearer is 2 - 2 cos.
    angle = math.acos(1 - 0.2 / 2)
    for turn, kept in ((0.99, 1), (1.01, 0)):
        output = torch.tensor([[math.cos(turn * angle), math.sin(turn * angle)]])
        assert clustering(output, torch.tensor([-1]), radius=0.2)["kept"].item() == kept
    # The distance is twice the sine of half the angle: 0.2 and 0.04 of its square.
    angle = 2 * math.asin(0.2 / 2)
    for turn, kept in ((0.99, 1), (1.01, 0)):
        output = torch.tensor([[math.cos(turn * angle), math.sin(turn * angle)]])
        terms = clustering(output, torch.tensor([-1]), radius=0.2, distance="euclidean")
        assert terms["kept"].item() == kept
        assert clustering(output, torch.tensor([-1]), radius=0.04)["kept"].item() == kept


def test_what_is_not_kept_and_the_anchors_get_no_gradient():
    equal = torch.full((2, 4, 3), 1 / math.sqrt(3), requires_grad=True)
    anchors = torch.full((4, 3), 1 / math.sqrt(3), requires_grad=True)
    terms = clustering(equal, torch.full((4,), -1), radius=0.2, anchors=anchors)
    terms["loss"].backward()
    assert terms["loss"].item() == terms["kept"].item() == equal.grad.abs().sum() == 0
    terms = clustering(equal.bfloat16(), torch.tensor([1, -1, -1, -1]), radius=0.2, anchors=anchors)
    terms["loss"].backward()
    assert terms["loss"].dtype == torch.float32
    assert (equal.grad[:, 0] != 0).all()
    assert equal.grad[:, 1:].abs().sum() == 0
    assert anchors.grad is None


def test_the_loss_of_one_kept_image_is_its_own():
    outputs = unit(3, 4, seed=0)
    terms = clustering(outputs, torch.tensor([-1, 2, -1]), radius=0.0)
    assert terms["kept"].item() == pytest.approx(1 / 3)
    torch.testing.assert_close(terms["loss"], 2 - 2 * outputs[1, 2])


def test_within_a_radius_of_0_is_no_image():
    assert clustering(torch.eye(3), torch.full((3,), -1), radius=0.0)["kept"].item() == 0
