"""TURTLE on stored features: its spaces, its head, its score, and what it learns."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from torch.nn import functional as F

from sslpipe.data.images import Images
from sslpipe.methods.cluster import kmeans, turtle
from sslpipe.methods.cluster._label_search import LabelSearch
from sslpipe.methods.cluster._problem import Neighborhood, Problem
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.objectives import turtle as objective


def digits_problem(network, parts=None):
    """All digits as their pixels, which stand for the features of a network that has as many."""
    data = load_digits()
    features = data.data.astype(np.float32)
    if parts:
        units = [F.normalize(each, dim=1) for each in torch.from_numpy(features).split(parts, dim=1)]
        features = torch.cat(units, dim=1).numpy()
    indices, _ = nearest_neighbors(torch.from_numpy(features), k=10)
    images = Images((data.images * (255 / 16)).astype(np.uint8)[:, None], torch.device("cpu"))
    near = Neighborhood(images, torch.from_numpy(indices), features)
    backbone = type("Backbone", (torch.nn.Identity,), {"parts": tuple(parts or [64]), "dimension": 64})()
    network.backbone = backbone
    return Problem(network, near, Neighborhood(images, near.neighbors)), data.target


def found(module, problem, seed, **settings):
    method = module.Method(module.Settings(clusters=10, **settings), problem, seed=seed)
    return method, method.after_epoch({})


def test_it_learns_digits_better_than_k_means(network):
    problem, label = digits_problem(network)
    scores = {}
    for module, settings in ((kmeans, {}), (turtle, {"steps": 300})):
        groups = [found(module, problem, seed, **settings)[0].training_logits().argmax(dim=1) for seed in range(2)]
        scores[module] = np.mean([adjusted_rand_score(label, each.numpy()) for each in groups])
    assert scores[turtle] > scores[kmeans] + 0.02


def test_joined_networks_are_spaces_and_the_head_is_the_mean_of_their_probabilities(network):
    problem, _ = digits_problem(network, parts=[40, 24])
    method, row = found(turtle, problem, 0, steps=20, components=16)
    head = method._head
    assert head.settings.heads == 2
    assert not head.linear.weight[:10, 40:].any()
    assert not head.linear.weight[10:, :40].any()
    spaces = method._spaces()
    assert [space.components.shape for space in spaces] == [(1797, 16), (1797, 16)]
    assert [float(space.components.std()) for space in spaces] == pytest.approx([1, 1], abs=1e-3)
    search = LabelSearch(
        [space.components for space in spaces],
        method.settings,
        clusters=10,
        generator=torch.Generator().manual_seed(0),
    )
    for _ in range(20):
        terms = search.step()
    with torch.no_grad():
        label = objective.mean_label(search.labelling([space.components for space in spaces]))
    torch.testing.assert_close(method.training_logits().exp(), label.T, rtol=1e-4, atol=1e-5)
    assert {name: row[name] for name in terms} == pytest.approx({name: each.item() for name, each in terms.items()})
    assert 0 <= row["entropy"] <= 2 * math.log(10) + 1e-5


def test_the_generalization_score_is_the_accuracy_on_images_that_were_left_out():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 40)
    apart = (rng.normal(size=(120, 5)) + 8 * np.eye(5)[groups]).astype(np.float32)
    noise = rng.normal(size=(120, 5)).astype(np.float32)
    assert turtle.generalization_score([apart], groups, seed=0) == 1.0
    by_chance = turtle.generalization_score([noise], groups, seed=0)
    assert by_chance < 0.5
    both = turtle.generalization_score([apart, noise], groups, seed=0)
    assert both == pytest.approx((1 + by_chance) / 2)
    assert turtle.generalization_score([noise], np.zeros(120, dtype=np.int64), seed=0) == 1.0


def test_the_generalization_score_predicts_each_image_once_from_all_others(monkeypatch):
    calls = []

    def predicted(features, groups, other):
        calls.append((set(features[:, 0].astype(int)), set(other[:, 0].astype(int))))
        return np.zeros(len(other), dtype=np.int64)

    monkeypatch.setattr(turtle, "_predicted", predicted)
    number = np.arange(25, dtype=np.float32)[:, None]
    assert turtle.generalization_score([number], np.arange(25) // 20, seed=3) == 0.8
    assert len(calls) == 10
    assert sorted(each for _, part in calls for each in part) == list(range(25))
    assert all(others | part == set(range(25)) and not others & part for others, part in calls)
