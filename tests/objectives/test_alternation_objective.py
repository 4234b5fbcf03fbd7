import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sslpipe.objectives.alternation import assign_targets, clustering


def unit(*shape, seed):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def cost(outputs, targets, images):
    """Eq. 4's sum for one assignment of targets to images."""
    clusters = outputs.shape[1]
    return sum(
        (float(outputs[image, k]) - (k == target)) ** 2
        for target, image in zip(targets, images, strict=True)
        for k in range(clusters)
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), images=st.integers(1, 5), data=st.data())
def test_the_assignment_is_the_best_of_all_injections(seed, images, data):
    targets = data.draw(st.lists(st.integers(0, 2), max_size=images))
    outputs = unit(images, 3, seed=seed)
    assigned = assign_targets(outputs, torch.tensor(targets, dtype=torch.int64)).tolist()
    assert len(assigned) == len(set(assigned)) == len(targets)
    best = min(cost(outputs, targets, injection) for injection in permutations(range(images), len(targets)))
    assert cost(outputs, targets, assigned) == pytest.approx(best, abs=1e-5)


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


def clustering_by_loops(copies, targets, radius, anchors):
    """Section 3.1: pseudo-targets of confident images, and eq. 5."""
    r, images, clusters = copies.shape
    total, kept = 0.0, 0
    for i in range(images):
        target = int(targets[i])
        if target < 0:
            output = anchors[i].tolist()
            nearest = output.index(max(output))
            if sum((output[k] - (k == nearest)) ** 2 for k in range(clusters)) >= radius:
                continue
            target = nearest
        kept += 1
        for j in range(r):
            total += sum((float(copies[j, i, k]) - (k == target)) ** 2 for k in range(clusters))
    return total / (kept * r) if kept else 0.0, kept / images


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), copies=st.integers(1, 3), radius=st.floats(0.05, 1.5), default=st.booleans())
def test_equals_eq_5_by_loops(seed, copies, radius, default):
    outputs, anchors = unit(copies, 7, 3, seed=seed), unit(7, 3, seed=seed + 1)
    targets = torch.randint(-1, 3, (7,), generator=torch.Generator().manual_seed(seed))
    terms = clustering(outputs, targets, radius=radius, anchors=None if default else anchors)
    loss, kept = clustering_by_loops(outputs, targets, radius, outputs[0] if default else anchors)
    assert terms["loss"].item() == pytest.approx(loss, rel=1e-4, abs=1e-6)
    assert terms["kept"].item() == pytest.approx(kept)


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
