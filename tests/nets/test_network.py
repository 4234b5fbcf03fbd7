"""Normalisation, backbone and head as one network."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.heads import LinearSettings
from sslpipe.nets.network import RESIZED_AT_ONCE, BackboneSettings, Network, build_network
from sslpipe.nets.preprocessing import InputSettings, resize_and_crop

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


def seen_by(network, images):
    """What its backbone is given of images, without the normalisation."""
    found = []
    handle = network.backbone.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    network.features(images)
    handle.remove()
    return torch.cat(found) * network.std + network.mean


@pytest.mark.parametrize("training", [False, True])
def test_a_network_sees_the_centre_of_larger_images_and_views_as_they_are(training):
    network = Network(replace(TINY, side=4), mean=MEAN, std=STD).train(training)
    images = torch.rand(3, 3, 6, 6)
    torch.testing.assert_close(seen_by(network, images), images[..., 1:5, 1:5])
    for view in (images[..., :4, :4], images[..., :3, :3]):
        torch.testing.assert_close(seen_by(network, view), view)
    torch.testing.assert_close(seen_by(Network(TINY, mean=MEAN, std=STD), images), images)


def test_a_published_networks_preprocessing_is_of_whole_images_alone():
    settings = InputSettings(resize=20, crop=16, interpolation="bilinear")
    network = Network(replace(TINY, side=16), mean=MEAN, std=STD, input=settings).eval()
    for size in (18, 20, 30):
        images = torch.rand(2, 3, size, size)
        torch.testing.assert_close(seen_by(network, images), resize_and_crop(images, settings))
    stored = torch.rand(RESIZED_AT_ONCE + 1, 3, 20, 20)  # as large as it is to be resized
    torch.testing.assert_close(seen_by(network, stored), stored[..., 2:18, 2:18])
    for view in (stored[..., :16, :16], stored[..., :6, :6]):
        torch.testing.assert_close(seen_by(network, view), view)
    # Without a side every image is a whole one, as it always was.
    network = Network(TINY, mean=MEAN, std=STD, input=settings).eval()
    torch.testing.assert_close(seen_by(network, stored[..., :6, :6]), resize_and_crop(stored[..., :6, :6], settings))


def test_a_side_of_more_than_the_stored_images_is_refused():
    replace(TINY, side=32).check_side(32)
    with pytest.raises(UserError, match=r"^network.side: 33 found, expected at most prepare.size, 32$"):
        replace(TINY, side=33).check_side(32)
