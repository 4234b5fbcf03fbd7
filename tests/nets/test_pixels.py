"""The backbone of raw pixels."""

import pytest
import torch
from torch.nn import functional as F

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.heads import build_head
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings, build_network, pixel_network
from sslpipe.nets.unit_heads import ConsensusSettings


def info(size, channels):
    return StoreInfo(size=size, channels=channels, mean=(0.3,) * channels, std=(0.4,) * channels, train=9, held_out=1,
                     test=0, protocol="split", fingerprint="0" * 64)  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "side"), [(8, 8), (32, 32), (96, 32), (33, 32)])
def test_features_are_the_pixels_of_the_whole_image_at_32_px_at_most(size, side, channels):
    network = pixel_network(info(size, channels)).eval()
    images = torch.rand(2, channels, size, size)
    expected = images
    if size > side:
        expected = F.interpolate(images, [side, side], mode="bilinear", antialias=True)
    torch.testing.assert_close(network.features(images), expected.flatten(1))
    assert network.backbone.dimension == channels * side**2
    assert sum(p.numel() for p in network.parameters()) == 0


def test_comes_back_from_its_file(tmp_path):
    network = pixel_network(info(40, 3))
    network.head = build_head(ConsensusSettings(outputs=4, unit_features=True), network.backbone.dimension)
    save_model(tmp_path, network, card_for("cluster", info(40, 3), {}, parent=None))
    images = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(load_model(tmp_path)[0].eval()(images), network.eval()(images), rtol=0, atol=0)


def test_is_no_network_to_be_trained():
    with pytest.raises(UserError, match=r"network\.name: 'pixels' found, which only the stage cluster uses"):
        build_network(BackboneSettings(name="pixels"), info(8, 1))
