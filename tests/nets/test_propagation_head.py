"""The head of propagated labels and a probe, against loops and against the graph it continues."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sslpipe.neighbors.propagation import neighbor_graph, propagate
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets import propagation_head
from sslpipe.nets.heads import build_head
from sslpipe.nets.propagation_head import FLOOR, PropagationSettings

SETTINGS = {"classes": 3, "components": 4, "neighbors": 5, "power": 3.0}


def filled(answer, images=40, dimension=6, **changes):
    """A head with random content."""
    torch.manual_seed(1)
    chosen = {**SETTINGS, "images": None if answer == "probe" else images, **changes}
    head = build_head(PropagationSettings(answer=answer, **chosen), dimension).eval()
    if chosen["components"]:
        head.basis.copy_(torch.linalg.qr(torch.randn(dimension, chosen["components"]))[0])
    if answer != "probe":
        head.bank.copy_(F.normalize(torch.randn(head.bank.shape), dim=1))
        head.probability.copy_(torch.rand(images, 3).softmax(dim=1))
        head.weight.copy_(torch.rand(images) + 0.5)
    return head


def probabilities_by_loops(head, features):
    """The propagated probabilities of each row, in float64."""
    rows = []
    for feature in features.double():
        unit = feature / feature.norm()
        if head.settings.components:
            unit = unit @ head.basis.double()
            unit = unit / unit.norm()
        cosine = [float(unit @ row) for row in head.bank.double()]
        nearest = sorted(range(len(cosine)), key=lambda i: -cosine[i])[: head.settings.neighbors]
        scores = sum(
            max(cosine[i], 0) ** head.settings.power * float(head.weight[i]) * head.probability[i].double()
            for i in nearest
        )
        rows.append(scores / scores.sum())
    return torch.stack(rows).float()


@torch.no_grad()
@pytest.mark.parametrize("components", [4, None])
def test_logits_are_those_of_loops(components, monkeypatch):
    features = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    propagated = filled("propagation", components=components)
    expected = probabilities_by_loops(propagated, features)
    torch.testing.assert_close(propagated(features).exp(), expected, atol=1e-4, rtol=1e-3)
    product = filled("product", components=components)
    probe = product.probe(product.reduce(features)).log_softmax(dim=1)
    both = probabilities_by_loops(product, features).log() + probe
    torch.testing.assert_close(product(features), both, atol=1e-3, rtol=1e-3)
    alone = filled("probe", components=components)
    torch.testing.assert_close(alone(features), alone.probe(alone.reduce(features)).log_softmax(dim=1))
    whole = product(features)
    monkeypatch.setattr(propagation_head, "BLOCK", 7)
    monkeypatch.setattr(propagation_head, "QUERIES", 4)
    torch.testing.assert_close(product(features), whole)


@torch.no_grad()
def test_an_image_of_the_bank_has_its_own_probabilities():
    head = filled("propagation", components=None)
    torch.testing.assert_close(head(3 * head.bank[:7].float()).exp(), head.probability[:7].float())


@torch.no_grad()
def test_a_class_of_probability_zero_has_a_finite_logit():
    head = filled("propagation", components=None)
    head.probability.copy_(torch.tensor([1.0, 0.0, 0.0]).expand(40, 3))
    logits = head(torch.randn(5, 6))
    torch.testing.assert_close(logits[:, 1:].exp(), torch.full((5, 2), FLOOR))


@torch.no_grad()
def test_an_image_unlike_all_others_has_equal_probabilities():
    head = filled("propagation", components=None)
    head.bank.copy_(F.normalize(torch.rand(40, 6), dim=1))
    torch.testing.assert_close(head(-torch.ones(1, 6)).exp(), torch.full((1, 3), 1 / 3))
    torch.testing.assert_close(head(torch.zeros(1, 6)).exp(), torch.full((1, 3), 1 / 3))


@torch.no_grad()
def test_a_bank_smaller_than_the_number_of_neighbours_is_used_whole():
    head = filled("propagation", images=3, components=None)
    features = torch.randn(4, 6)
    torch.testing.assert_close(head(features).exp(), probabilities_by_loops(head, features), atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_new_image_continues_the_graph():
    """In a complete graph a new image's probabilities are those of propagation, had it been in the graph."""
    random = np.random.default_rng(0)
    count, classes = 30, 3
    group = np.arange(count) % classes
    points = torch.from_numpy(np.eye(6)[group] + 0.3 * random.random((count, 6))).float()
    points = F.normalize(points, dim=1)
    neighbors, similarities = nearest_neighbors(points, k=count - 1)
    graph = neighbor_graph(neighbors, similarities, power=3.0)
    index = np.arange(6)
    found = propagate(graph, index, group[index], classes=classes, alpha=0.99)
    rest = torch.arange(count - 1)  # the last image is the new one
    chosen = {"images": count - 1, "components": None, "neighbors": count - 1}
    head = filled("propagation", **chosen)
    head.bank.copy_(points[rest])
    head.probability.copy_(torch.from_numpy(found.probabilities())[rest])
    head.weight.copy_(torch.from_numpy(found.totals() / np.sqrt(graph.degree))[rest])
    expected = torch.from_numpy(found.probabilities())[-1:]
    torch.testing.assert_close(head(points[-1:]).exp(), expected, atol=2e-3, rtol=1e-2)


@torch.no_grad()
def test_half_precision_around_it_changes_nothing():
    head, features = filled("product"), torch.randn(5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(features), head(features.clone()))
        inside = head(features)
    torch.testing.assert_close(inside, head(features))
