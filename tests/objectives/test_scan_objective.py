import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.scan import scan


def scan_by_loops(anchors, neighbors, entropy_weight):
    """SCAN, eq. 2, on one batch, with averages over the batch."""
    p, q = anchors.softmax(dim=1).tolist(), neighbors.softmax(dim=1).tolist()
    images, clusters = len(p), len(p[0])
    consistency = -sum(math.log(sum(p[i][c] * q[i][c] for c in range(clusters))) for i in range(images)) / images
    mean = [sum(p[i][c] for i in range(images)) / images for c in range(clusters)]
    entropy = -sum(m * math.log(m) for m in mean)
    return consistency - entropy_weight * entropy, consistency, entropy


@given(seed=st.integers(0, 1000), batch=st.integers(1, 6), clusters=st.integers(2, 7), weight=st.floats(0, 10))
def test_equals_eq_2_by_loops(seed, batch, clusters, weight):
    logits = 3 * torch.randn(2, batch, clusters, generator=torch.Generator().manual_seed(seed))
    terms = scan(*logits, entropy_weight=weight)
    for name, expected in zip(("loss", "consistency", "entropy"), scan_by_loops(*logits, weight), strict=True):
        assert terms[name].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("weight", [2.0, 5.0])
def test_known_values(weight):
    uniform = torch.zeros(20, 10)
    terms = scan(uniform, uniform, entropy_weight=weight)
    assert terms["loss"].item() == pytest.approx((1 - weight) * math.log(10), rel=1e-5)
    perfect = 1000.0 * torch.eye(10).repeat(2, 1)
    terms = scan(perfect, perfect, entropy_weight=weight)
    assert terms["consistency"].item() == pytest.approx(0.0, abs=1e-5)
    assert terms["loss"].item() == pytest.approx(-weight * math.log(10), rel=1e-5)
    collapsed = 1000.0 * torch.eye(10)[:1].repeat(20, 1)
    terms = scan(collapsed, collapsed, entropy_weight=weight)
    assert terms["loss"].item() == pytest.approx(0.0, abs=1e-5)


def test_stays_finite_where_the_product_of_probabilities_underflows():
    anchors = torch.tensor([[200.0, 0.0]], requires_grad=True)
    terms = scan(anchors, torch.tensor([[0.0, 200.0]]), entropy_weight=2.0)
    terms["loss"].backward()
    assert terms["consistency"].item() == pytest.approx(200 - math.log(2), rel=1e-5)
    assert anchors.grad.isfinite().all()


@given(seed=st.integers(0, 1000))
def test_heads_are_scored_each_on_its_own_and_names_of_clusters_do_not_matter(seed):
    generator = torch.Generator().manual_seed(seed)
    anchors, neighbors = torch.randn(2, 3, 8, 5, generator=generator)
    loss = scan(anchors, neighbors, entropy_weight=2.0)["loss"]
    assert loss.shape == (3,)
    for head in range(3):
        torch.testing.assert_close(scan(anchors[head], neighbors[head], entropy_weight=2.0)["loss"], loss[head])
    order = torch.randperm(5, generator=generator)
    torch.testing.assert_close(scan(anchors[..., order], neighbors[..., order], entropy_weight=2.0)["loss"], loss)


def test_heads_may_follow_the_images():
    anchor, neighbor = torch.randn(2, 3, 8, 5, generator=torch.Generator().manual_seed(0))
    expected = scan(anchor, neighbor, entropy_weight=2.0)
    found = scan(anchor.transpose(0, 1), neighbor.transpose(0, 1), entropy_weight=2.0, batch_dim=-3)
    for name, value in expected.items():
        assert value.shape == (3,)
        torch.testing.assert_close(found[name], value)
