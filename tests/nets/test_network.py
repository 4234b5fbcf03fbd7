"""Normalisation, backbone and head as one network."""

import torch
from torch import nn

from sslpipe.data.store import StoreInfo
from sslpipe.nets.heads import LinearSettings
from sslpipe.nets.network import BackboneSettings, Network, build_network

TINY = BackboneSettings(name="tiny_resnet")
MEAN, STD = (0.5, 0.25, 0.1), (0.2, 0.5, 1.0)


def test_the_network_normalises_its_input():
    torch.manual_seed(0)
    network = Network(TINY, LinearSettings(outputs=4), mean=MEAN, std=STD).eval()
    images = torch.rand(2, 3, 16, 16)
    normalised = images.clone()
    for channel in range(3):
        normalised[:, channel] = (images[:, channel] - MEAN[channel]) / STD[channel]
    features = network.backbone(normalised)
    torch.testing.assert_close(network.features(images), features)
    torch.testing.assert_close(network(images), network.head(features))
    assert network(images).shape == (2, 4)


def test_mean_and_deviation_are_no_weights():
    network = Network(TINY, mean=MEAN, std=STD)
    assert network.mean.shape == network.std.shape == (3, 1, 1)
    assert all(name.startswith("backbone.") for name in network.state_dict())
    assert network.to("meta").mean.is_meta  # they follow the network to its device


def test_a_head_may_be_put_in_later():
    network = Network(TINY, mean=MEAN, std=STD)
    images = torch.rand(2, 3, 8, 8)
    assert network(images).shape == (2, network.backbone.dimension)
    network.head = nn.Linear(network.backbone.dimension, 5)
    assert network(images).shape == (2, 5)


def test_build_network_takes_channels_and_statistics_of_the_store():
    info = StoreInfo(
        size=16, channels=1, classes=(), mean=(0.25,), std=(0.5,), train=1, held_out=1, test=1, protocol="split",
        fingerprint="f",
    )  # fmt: skip
    network = build_network(TINY, info)
    assert network.mean.tolist() == [[[0.25]]]
    assert network.std.tolist() == [[[0.5]]]
    assert network(torch.rand(2, 1, 16, 16)).shape == (2, 64)


def test_equal_seeds_give_equal_networks():
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(Network(TINY, LinearSettings(outputs=4), mean=MEAN, std=STD).state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])
