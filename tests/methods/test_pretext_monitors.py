"""Diagnostics of pretext tasks: by loops, and collapse is noticed."""

from inspect import signature

import pytest
import torch
from every_method import METHODS, pretext, pretext_given
from torch.nn import functional as F

from sslpipe.data.images import Images
from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain import _monitors, simclr
from sslpipe.methods.pretrain._base import SelfSupervised
from sslpipe.methods.pretrain._monitors import feature_diagnostics, two_views, view_retrieval
from sslpipe.nets.heads import PrototypeHead, PrototypeSettings
from sslpipe.views.policies import Views, ViewSettings

PRETEXTS = [name for name in METHODS if name.startswith("pretrain/")]
PLAIN = Views(ViewSettings(policy="plain"), [0.0])


def test_the_history_has_the_diagnostics_of_held_out_images(digits, network):
    images = digits[1]
    row = feature_diagnostics(network, images, PLAIN)
    unit = F.normalize(network.eval().features(images[torch.arange(60)].float() / 255), dim=1).detach()
    assert row["held_out/view_retrieval@1"] == 1.0  # plain views are all alike
    deviation = sum(float((unit[:, d] - unit[:, d].mean()).square().mean()) for d in range(unit.shape[1])) ** 0.5
    assert row["held_out/feature_std"] == pytest.approx(deviation, rel=1e-3)


def test_diagnostics_take_images_alone(digits, network):
    """No label is asked for, and none is there to be read."""
    images = digits[1]
    assert isinstance(pretext_given(digits, network).held_out, Images)
    assert list(signature(feature_diagnostics).parameters) == ["network", "images", "views", "further"]
    assert set(feature_diagnostics(network, images, PLAIN)) == {"held_out/feature_std", "held_out/view_retrieval@1"}
    assert feature_diagnostics(network, images.subset(torch.tensor([0])), PLAIN) == {}


def test_no_more_than_the_first_images_are_used(digits, network, monkeypatch):
    images = digits[1]
    expected = feature_diagnostics(network, images.subset(torch.arange(30)), PLAIN)
    monkeypatch.setattr(_monitors, "MAX_IMAGES", 30)
    assert feature_diagnostics(network, images, PLAIN) == expected


def test_all_images_have_two_views_in_order_also_over_several_batches(digits, network, monkeypatch):
    monkeypatch.setattr(_monitors, "BATCH", 16)
    images = digits[1]
    expected = F.normalize(network.eval().features(images[torch.arange(60)].float() / 255), dim=1)
    for view in two_views(network, images, PLAIN):
        torch.testing.assert_close(view, expected, rtol=1e-4, atol=1e-5)


def test_rounding_hides_no_collapse(digits, network, monkeypatch):
    # The squared length of the mean of equal unit vectors may be above 1.
    for seed in range(20):
        feature = torch.randn(64, generator=torch.Generator().manual_seed(seed))
        monkeypatch.setattr(network, "features", lambda images, feature=feature: feature.expand(len(images), 64))
        assert feature_diagnostics(network, digits[1], PLAIN)["held_out/feature_std"] < _monitors.MIN_STD


def test_two_images_are_enough_for_diagnostics(digits, network):
    assert feature_diagnostics(network, digits[1].subset(torch.arange(2)), PLAIN)["held_out/view_retrieval@1"] == 1.0


def test_prototypes_are_counted_that_are_nearest_to_an_image(digits, network):
    network.head = PrototypeHead(network.backbone.dimension, PrototypeSettings(prototypes=12, hidden=32, outputs=16))
    logits = network.eval()(digits[1][torch.arange(60)].float() / 255)
    nearest = len(set(logits.argmax(dim=1).tolist()))
    assert 1 < nearest < 12
    assert feature_diagnostics(network, digits[1], PLAIN)["held_out/prototypes"] == nearest


def test_view_retrieval_is_chance_for_features_of_nothing():
    same = F.normalize(torch.ones(50, 4), dim=1)
    assert view_retrieval(same, same) <= 1 / 50 + 1e-9
    assert view_retrieval(torch.eye(8), torch.eye(8)) == 1


@pytest.mark.parametrize("name", PRETEXTS)
def test_every_pretext_has_diagnostics(name, digits, network):
    _, method = METHODS[name](digits, network)
    assert isinstance(method, SelfSupervised)
    chance = method.loss_at_chance()
    row = method.after_epoch(dict.fromkeys(chance, 0.0))
    expected = {"held_out/feature_std", "held_out/view_retrieval@1"}
    if name in ("pretrain/swav", "pretrain/dino"):
        expected |= {"held_out/prototypes"}
    if name == "pretrain/propos":
        expected |= {"largest_cluster"}
    assert set(row) == expected


@pytest.mark.parametrize("name", PRETEXTS)
def test_a_loss_that_stays_at_chance_is_said_once(name, digits, network, capsys):
    _, method = METHODS[name](digits, network)
    method.progress = Progress(5, 10, 1)
    for term, level in method.loss_at_chance().items():
        for _ in range(2):
            method.after_epoch(dict.fromkeys(method.loss_at_chance(), 0.0) | {term: 1.001 * level})
        lines = capsys.readouterr().out.strip().splitlines()
        assert len(lines) == 1
        assert f"{term} stays at its value at chance, nothing is learned; {method.collapse_hint}" in lines[0]
        method.after_epoch(dict.fromkeys(method.loss_at_chance(), 0.0))
        assert not capsys.readouterr().out


def test_collapsed_features_are_reported_and_are_a_collapse(digits, network, capsys):
    _, method = pretext(simclr)(digits, network)
    for weight in network.backbone.parameters():
        weight.detach().zero_()
    for layer in network.backbone.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(layer.bias)
    method.progress = Progress(5, 10, 1)
    row = method.after_epoch({"loss": 1.0})
    assert row["held_out/feature_std"] == pytest.approx(0, abs=1e-3)
    assert "pretrain.simclr: all features are the same (collapse)" in capsys.readouterr().out
    assert method.collapse(row) == "all features are the same (collapse)"
    assert method.collapse({"held_out/feature_std": float("nan")}) == "all features are the same (collapse)"


def test_without_held_out_images_the_training_images_show_a_collapse(digits, network):
    _, method = pretext(simclr)(digits, network)
    assert method.collapse({}) == ""
    torch.nn.init.zeros_(network.backbone.stem[0].weight)  # the images no longer enter the features
    assert method.collapse({}) == "all features are the same (collapse)"


def test_without_held_out_images_only_a_loss_at_chance_is_a_collapse(digits, network):
    _, method = pretext(simclr)(digits, network)
    assert method._warning({"loss": 0.0}, {}) == ""
    assert "at chance" in method._warning(method.loss_at_chance(), {})
