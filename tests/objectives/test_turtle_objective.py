import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.objectives.turtle import mean_label, turtle

sizes = {"seed": st.integers(0, 1000), "spaces": st.integers(1, 3), "batch": st.integers(1, 6)}


def drawn(seed, *shape):
    return 3 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turtle_by_loops(labels, classified, weight):
    """TURTLE, eq. 12, written out: soft labels, cross-entropies of the classifiers, entropies of the labelling."""
    tau, w = labels.softmax(dim=1).tolist(), classified.softmax(dim=1).tolist()
    spaces, clusters, images = labels.shape
    cross_entropy = entropy = 0.0
    for s in range(spaces):
        for i in range(images):
            for k in range(clusters):
                label = sum(tau[t][k][i] for t in range(spaces)) / spaces
                cross_entropy -= label * math.log(w[s][k][i]) / images
        for k in range(clusters):
            mean = sum(tau[s][k][i] for i in range(images)) / images
            entropy -= mean * math.log(mean)
    return {"loss": cross_entropy - weight * entropy, "cross_entropy": cross_entropy, "entropy": entropy}


@given(**sizes, clusters=st.integers(2, 5), weight=st.floats(0, 10))
def test_equals_eq_12_by_loops(seed, spaces, batch, clusters, weight):
    labels, classified = drawn(seed, spaces, clusters, batch)
    terms = {name: value.item() for name, value in turtle(labels, classified, entropy_weight=weight).items()}
    assert terms == pytest.approx(turtle_by_loops(labels, classified, weight), rel=1e-9, abs=1e-9)


@given(**sizes, clusters=st.integers(2, 7))
def test_the_names_of_clusters_do_not_matter_and_entropies_have_bounds(seed, spaces, batch, clusters):
    labels, classified = drawn(seed, spaces, clusters, batch)
    terms = turtle(labels, classified, entropy_weight=10.0)
    order = torch.randperm(clusters, generator=torch.Generator().manual_seed(seed))
    for name, value in turtle(labels[:, order], classified[:, order], entropy_weight=10.0).items():
        torch.testing.assert_close(value, terms[name])
    assert -1e-9 <= terms["entropy"].item() <= spaces * math.log(clusters) + 1e-9
    # No classifier is better than the entropy of the labels that it predicts.
    label = mean_label(labels)
    least = -(label * label.log()).sum() / batch
    assert terms["cross_entropy"].item() >= spaces * least.item() - 1e-9
    torch.testing.assert_close(label.sum(dim=0), torch.ones(batch, dtype=label.dtype))
    best = label.log().expand(spaces, clusters, batch)
    torch.testing.assert_close(turtle(labels, best, entropy_weight=10.0)["cross_entropy"], spaces * least)


@pytest.mark.parametrize("spaces", [1, 2])
def test_known_values(spaces):
    uniform = torch.zeros(spaces, 10, 20)
    chance = spaces * math.log(10)
    terms = {name: value.item() for name, value in turtle(uniform, uniform, entropy_weight=10.0).items()}
    assert terms == pytest.approx({"loss": -9 * chance, "cross_entropy": chance, "entropy": chance}, rel=1e-5)
    certain = 1000.0 * torch.eye(10).repeat(spaces, 1, 2)
    terms = {name: value.item() for name, value in turtle(certain, certain, entropy_weight=10.0).items()}
    assert terms == pytest.approx({"loss": -10 * chance, "cross_entropy": 0.0, "entropy": chance}, rel=1e-5, abs=1e-5)
    one = 1000.0 * torch.eye(10)[:, :1].repeat(spaces, 1, 20)
    assert turtle(one, one, entropy_weight=10.0)["loss"].item() == pytest.approx(0.0, abs=1e-5)


def test_stays_finite_where_a_probability_underflows():
    labels = torch.tensor([[[200.0], [0.0]]], requires_grad=True)
    terms = turtle(labels, torch.tensor([[[0.0], [200.0]]]), entropy_weight=10.0)
    terms["loss"].backward()
    assert terms["cross_entropy"].item() == pytest.approx(200, rel=1e-5)
    assert labels.grad.isfinite().all()
