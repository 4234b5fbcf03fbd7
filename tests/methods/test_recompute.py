"""Methods learn the same from a network that recomputes its activations."""

import pytest
import torch
from every_method import METHODS, few_labels, train

from sslpipe.nets import recompute
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.running.starts import start_network


def trained(name, digits, info, recomputed):
    torch.manual_seed(0)
    network = build_network(BackboneSettings(name="tiny_resnet", recompute=recomputed), info)
    settings, method = METHODS[name](digits, network)
    history = train(name, digits, settings, method, batch=100, epochs=5 if "alternation" in name else 1)
    return history, method.state_dict()


KINDS = [
    "pretrain/simclr",
    "pretrain/feature_decoupling",
    "pretrain/dino",
    "cluster/scan",
    "self_label/confident",
    "semisup/fixmatch ctaugment alignment",
    "semisup/daino",
    "semisup/alternation",
]
"""One of each way to use a network: alone, in several passes, beside an average, in eval mode, in phases."""


@pytest.mark.parametrize("name", KINDS)
def test_a_method_ends_with_the_same_weights(name, digits, info, monkeypatch):
    expected, weights = trained(name, digits, info, False)
    parts, own = [], recompute.recomputing
    monkeypatch.setattr(recompute, "recomputing", lambda part: parts.append(part) or own(part))
    found, others = trained(name, digits, info, True)
    assert parts
    assert found == expected
    assert all(torch.equal(others[key], value) for key, value in weights.items())


def test_a_start_that_was_trained_without_it_is_taken(network, info, digits, tmp_path):
    save_model(tmp_path / "p", network, card_for("pretrain", info, {}, parent=None))
    recomputed = BackboneSettings(name="tiny_resnet", recompute=True)
    assert start_network(tmp_path / "p", recomputed, info, few_labels(digits)).settings == recomputed
