"""Normalisation, backbone and head as one network."""

import pytest
import torch
from torch import nn

from sslpipe.data.store import StoreInfo
from sslpipe.nets.heads import LinearSettings
from sslpipe.nets.network import BackboneSettings, Network, build_network
from sslpipe.nets.preprocessing import InputSettings

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
        size=16, channels=1, mean=(0.25,), std=(0.5,), train=1, held_out=1, test=1, protocol="split",
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


def test_features_of_views_keep_their_places_whatever_their_sizes():
    torch.manual_seed(0)
    network = Network(TINY, mean=MEAN, std=STD).eval()
    views = [torch.rand(count, 3, size, size) for count, size in ((4, 8), (5, 6), (3, 8), (2, 6))]
    for view, features in zip(views, network.features_of(views), strict=True):
        torch.testing.assert_close(features, network.features(view), rtol=1e-4, atol=1e-5)


def test_images_are_resized_and_cropped_before_they_are_normalised():
    torch.manual_seed(0)
    settings = InputSettings(resize=20, crop=16, interpolation="bilinear")
    network = Network(TINY, mean=MEAN, std=STD, input=settings).eval()
    plain = Network(TINY, mean=MEAN, std=STD).eval()
    plain.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 10, 10)
    larger = nn.functional.interpolate(images, (20, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(network.features(images), plain.features(larger[..., 2:18, 2:18]))


def test_grey_images_become_three_channels_where_the_means_are_three():
    network = Network(TINY, mean=MEAN, std=STD, channels=1).eval()
    images = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(network.features(images), network.features(images.expand(-1, 3, -1, -1)))


def test_the_mean_colour_has_one_value_a_channel_of_the_images():
    for mean in (MEAN, MEAN[:1]):
        assert Network(TINY, mean=mean, std=STD[: len(mean)]).image_mean == pytest.approx(mean)
    assert Network(TINY, mean=MEAN, std=STD, channels=1).image_mean == pytest.approx([sum(MEAN) / 3])
