"""Every method on stored images that are larger than what its network sees."""

from dataclasses import replace

import pytest
import torch
from every_method import METHODS, few_labels, train

from sslpipe.io.errors import UserError
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.network import BackboneSettings, Network, build_network
from sslpipe.running.starts import start_network

SIDE = 7
SETTINGS = BackboneSettings(name="tiny_resnet", side=SIDE)
LOCAL = 6
"""Side of the local views in every_method.py."""


@pytest.fixture
def network(info):
    torch.manual_seed(0)
    return build_network(SETTINGS, info)


@pytest.mark.parametrize("name", METHODS)
def test_views_have_the_networks_side_and_whole_images_are_seen_at_their_centre(name, digits, network, monkeypatch):
    given, seen = set(), set()
    features = Network.features

    def watched(self, images):
        given.add((images.shape[-1], torch.is_grad_enabled()))
        handle = self.backbone.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].shape[-1]))
        try:
            return features(self, images)
        finally:
            handle.remove()

    monkeypatch.setattr(Network, "features", watched)
    settings, method = METHODS[name](digits, network)
    train(name, digits, settings, method, batch=75, epochs=5 if "alternation" in name else 1)
    with_gradient = {size for size, gradient in given if gradient}
    local = {LOCAL} if getattr(settings, "local_crops", 0) else set()
    assert with_gradient == {SIDE} | local  # so nothing is lost of a view
    assert {size for size, gradient in given if not gradient} <= {8, SIDE, LOCAL}
    assert seen == {SIDE} | local


def test_another_side_than_that_of_params_yaml_is_one_line(digits, network, info, tmp_path):
    card = card_for("pretrain", info, {}, parent=None)
    save_model(tmp_path / "pretrain", network, card)
    labelled = few_labels(digits)
    assert start_network(tmp_path / "pretrain", SETTINGS, info, labelled).side == SIDE
    with pytest.raises(UserError, match=r"model.json: network.side: 7 found, expected null as in params.yaml; run"):
        start_network(tmp_path / "pretrain", replace(SETTINGS, side=None), info, labelled)
