from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from every_method import CROP, pretext_given

from sslpipe.methods.pretrain import frozen
from sslpipe.methods.pretrain._monitors import feature_diagnostics, two_views
from sslpipe.nets.weights_files import WeightsFile
from sslpipe.views.policies import Views


@pytest.fixture
def asked(monkeypatch, network):
    """A list that fills with the arguments of each request for a published network; the answer is `network`."""
    seen = []

    def published_network(*given, **named):
        seen.append((*given, named))
        return network.eval()

    monkeypatch.setattr(frozen, "published_network", published_network)
    return seen


def test_the_published_network_is_kept_with_the_diagnostics_of_its_features(digits, network, asked):
    problem = replace(pretext_given(digits, network), info=SimpleNamespace(channels=3))
    method = frozen.Method(frozen.Settings(weights="file.pth", download=True, views=CROP), problem)
    assert asked == [(network.settings, [WeightsFile("file.pth")], {"channels": 3, "download": True, "side": None})]
    assert method.selected() is network
    views = Views(CROP, network.image_mean)
    first, second = (each.detach().double() for each in two_views(network, digits[1], views))
    alignment = sum(float((a - b).square().sum()) for a, b in zip(first, second, strict=True)) / 60
    pairs = [(first[i] - first[j]).square().sum() for i in range(60) for j in range(i)]
    uniformity = (sum((-2 * square).exp() for square in pairs) / len(pairs)).log()
    assert method.after_epoch({}) == {
        **feature_diagnostics(network, digits[1], views),
        "held_out/alignment": pytest.approx(alignment, rel=1e-4),
        "held_out/uniformity": pytest.approx(float(uniformity), rel=1e-4),
    }
    assert torch.equal(method.held_out[torch.arange(60)], digits[1][torch.arange(60)])
