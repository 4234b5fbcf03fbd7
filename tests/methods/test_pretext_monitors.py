"""The watch on pretext tasks: figures by loops, and collapse is noticed."""

import math

import numpy as np
import pytest
import torch
from every_method import METHODS, pretext, pretext_given
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sslpipe.engine.method import Progress
from sslpipe.io.errors import UserError
from sslpipe.methods.pretext import monitors
from sslpipe.methods.pretext.monitors import look, own_view
from sslpipe.methods.pretext.task import SelfSupervised
from sslpipe.methods.pretrain import simclr
from sslpipe.methods.watch import Watch
from sslpipe.metrics.neighbors import knn_accuracy, vote_size
from sslpipe.views.policies import Views, ViewSettings

PRETEXTS = [name for name in METHODS if name.startswith("pretrain/")]
PLAIN = Views(ViewSettings(policy="plain"), [0.0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), images=st.integers(1, 8), votes=st.integers(1, 5), temperature=st.floats(0.05, 1.0))
def test_knn_accuracy_equals_the_vote_by_loops(seed, images, votes, temperature):
    """Wu et al. 2018, section 3.4: class c gets the sum of exp(s_i / τ) over neighbours of class c."""
    random = np.random.default_rng(seed)
    similarity, theirs = random.uniform(-1, 1, (images, votes)), random.integers(-1, 3, (images, votes))
    label = random.integers(-1, 3, images)
    right = []
    for row, classes, own in zip(similarity, theirs, label, strict=True):
        total = [0.0, 0.0, 0.0]
        for s, c in zip(row, classes, strict=True):
            if c >= 0:
                total[c] += math.exp(s / temperature)
        if own >= 0:
            right.append(max(total) > 0 and int(np.argmax(total)) == own)
    result = knn_accuracy(similarity, theirs, label, temperature=temperature)
    assert np.isnan(result) if not right else result == pytest.approx(sum(right) / len(right))


def test_the_published_vote_is_200_where_classes_are_large_enough():
    assert vote_size(45_000, 10) == 200
    assert vote_size(135, 10) == 6
    assert vote_size(3, 10) == 1


def test_the_history_has_the_figures_of_held_out_images(digits, network):
    watch = pretext_given(digits, network).watch
    row = look(network, watch, PLAIN)
    unit = F.normalize(network.eval().features(watch.images[torch.arange(60)].float() / 255), dim=1).detach()
    assert row["held_out/own_view"] == 1.0  # plain views are all alike
    deviation = sum(float((unit[:, d] - unit[:, d].mean()).square().mean()) for d in range(unit.shape[1])) ** 0.5
    assert row["held_out/deviation"] == pytest.approx(deviation, rel=1e-3)
    right = 0
    for i in range(60):
        votes = vote_size(60, 10)
        nearest = sorted((j for j in range(60) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[:votes]
        total = torch.zeros(10)
        for j in nearest:
            total[watch.label[j]] += math.exp(float(unit[i] @ unit[j]) / 0.07)
        right += int(total.argmax() == watch.label[i])
    assert row["monitor/knn_acc"] == pytest.approx(right / 60)


def test_without_labels_there_is_no_figure_of_them(digits, network):
    watch = pretext_given(digits, network).watch
    blind = Watch(watch.images, torch.full_like(watch.label, -1))
    assert set(look(network, blind, PLAIN)) == {"held_out/deviation", "held_out/own_view"}
    one = Watch(watch.images.subset(torch.tensor([0])), watch.label[:1])
    assert look(network, one, PLAIN) == {}


def test_no_more_than_the_first_images_are_looked_at(digits, network, monkeypatch):
    watch = pretext_given(digits, network).watch
    first = Watch(watch.images.subset(torch.arange(30)), watch.label[:30])
    expected = look(network, first, PLAIN)
    monkeypatch.setattr(monitors, "WATCHED", 30)
    assert look(network, watch, PLAIN) == expected


def test_own_view_is_chance_for_features_of_nothing():
    same = F.normalize(torch.ones(50, 4), dim=1)
    assert own_view(same, same) <= 1 / 50 + 1e-9
    assert own_view(torch.eye(8), torch.eye(8)) == 1


@pytest.mark.parametrize("name", PRETEXTS)
def test_every_pretext_is_watched(name, digits, network):
    _, method = METHODS[name](digits, network)
    assert isinstance(method, SelfSupervised)
    chance = method.chance()
    row = method.after_epoch(dict.fromkeys(chance, 0.0))
    expected = {"held_out/deviation", "held_out/own_view", "monitor/knn_acc"}
    if name in ("pretrain/swav", "pretrain/dino"):
        expected |= {"held_out/prototypes"}
    assert set(row) == expected


@pytest.mark.parametrize("name", PRETEXTS)
def test_a_loss_that_stays_at_chance_is_said_once(name, digits, network, capsys):
    _, method = METHODS[name](digits, network)
    method.progress = Progress(5, 10, 1)
    for term, level in method.chance().items():
        for _ in range(2):
            method.after_epoch(dict.fromkeys(method.chance(), 0.0) | {term: 1.001 * level})
        lines = capsys.readouterr().out.strip().splitlines()
        assert len(lines) == 1
        assert f"{term} stays where it is at chance, nothing is learned; {method.remedy}" in lines[0]
        method.after_epoch(dict.fromkeys(method.chance(), 0.0))
        assert not capsys.readouterr().out


def test_collapsed_features_are_said_and_end_a_run_that_has_nothing_else(digits, network, capsys):
    _, method = pretext(simclr)(digits, network)
    for weight in network.backbone.parameters():
        weight.detach().zero_()
    for layer in network.backbone.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(layer.bias)
    method.progress = Progress(5, 10, 1)
    row = method.after_epoch({"loss": 1.0})
    assert row["held_out/deviation"] == pytest.approx(0, abs=1e-3)
    assert "pretrain.simclr: all features are the same (collapse)" in capsys.readouterr().out
    method.progress = Progress(10, 10, 1)
    with pytest.raises(UserError, match=r"pretrain\.simclr: all features are the same .*; lower"):
        method.after_epoch({"loss": 1.0})
