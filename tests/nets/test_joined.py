"""Joined networks against each network alone, in the model file and in an export."""

import json

import pytest
import timm
import torch
from torch.nn import functional as F

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.methods.pretrain.frozen import Settings
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings
from sslpipe.nets.published import published_network
from sslpipe.nets.weights_files import WeightsFile
from sslpipe.tools.export import export_model
from sslpipe.tools.lineage import trace

NAMES = ("test_efficientnet.r160_in1k", "test_vit.r160_in1k", "test_resnet.r160_in1k")
MEANS = {NAMES[1]: (0.3, 0.4, 0.5)}
STDS = {NAMES[1]: (0.5, 0.2, 0.1)}
INFO = StoreInfo(
    size=40, channels=3, mean=(0.4,) * 3, std=(0.3,) * 3, train=1, held_out=1, test=1, protocol="split", fingerprint="f"
)


@pytest.fixture(autouse=True)
def no_twins(monkeypatch):
    """Architectures that take the same weights are not searched for: test_weights_owner.py."""
    monkeypatch.setattr("sslpipe.nets.weights_owner.twins", lambda _: ())


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files of random weights of three networks, of which one expects another normalisation."""
    config = timm.models.get_pretrained_cfg

    def changed(name):
        found = config(name)
        found.mean, found.std = MEANS.get(name, found.mean), STDS.get(name, found.std)
        return found

    monkeypatch.setattr(timm.models, "get_pretrained_cfg", changed)
    torch.manual_seed(0)
    for name in NAMES:
        torch.save(timm.create_model(name.partition(".")[0]).state_dict(), tmp_path / f"{name}.pth")
    return {name: WeightsFile(str(tmp_path / f"{name}.pth")) for name in NAMES}


def load(files, names=NAMES, *, side=32, unit=True, channels=3):
    backbone = BackboneSettings(name="timm", architecture="+".join(names), unit_features=unit)
    given = [files[name] for name in names]
    return published_network(backbone, given, channels=channels, download=False, side=side)


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_features_are_those_of_each_network_alone_with_its_own_normalisation(files, channels):
    joined = load(files, channels=channels)
    alone = [load(files, [name], unit=False, channels=channels) for name in NAMES]
    assert alone[1].mean.flatten().tolist() == pytest.approx(MEANS[NAMES[1]])
    assert joined.backbone.parts == tuple(each.backbone.dimension for each in alone)
    assert all(each.backbone.parts == (each.backbone.dimension,) for each in alone)
    assert joined.backbone.dimension == sum(joined.backbone.parts)
    images = torch.rand(3, channels, 32, 32)  # not resized, which is done as for the first network
    features = torch.split(joined.features(images), joined.backbone.parts, dim=1)
    for part, each in zip(features, alone, strict=True):
        torch.testing.assert_close(part, F.normalize(each.features(images), dim=1))


@torch.no_grad()
def test_unit_features_of_a_single_network(files):
    unit, plain = load(files, NAMES[:1]), load(files, NAMES[:1], unit=False)
    images = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(unit.features(images), F.normalize(plain.features(images), dim=1))
    assert unit.backbone.parts == plain.backbone.parts


@torch.no_grad()
def test_whole_images_are_resized_to_the_side(files):
    network = load(files, side=48)
    images = torch.rand(2, 3, 40, 40)
    small = F.interpolate(images, [48, 48], mode="bicubic", antialias=True).clamp(0, 1)
    expected = network.backbone((small - network.mean) / network.std)
    torch.testing.assert_close(network.features(images), expected)


@torch.no_grad()
def test_a_joined_network_comes_back_and_is_exported_and_inspected(files, tmp_path, monkeypatch):
    network = load(files)
    save_model(tmp_path / "model", network, card_for("pretrain", INFO, {}, parent=None))
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: timm.get_pretrained_cfg(name))  # as it was
    loaded, _ = load_model(tmp_path / "model")
    assert (loaded.settings, loaded.input, loaded.backbone.parts) == (
        network.settings,
        network.input,
        network.backbone.parts,
    )
    images = torch.rand(2, 3, 40, 40)
    assert torch.equal(loaded.eval().features(images), network.features(images))
    for form in ("onnx", "torch"):
        exported = export_model(tmp_path / "model", form, tmp_path / "exported")
        assert exported.difference <= 1e-5
    about = json.loads((tmp_path / "exported" / "model.onnx.json").read_text())
    assert about["output"]["shape"] == ["batch", network.backbone.dimension]
    assert "resized to 32 × 32 px (bicubic), normalised" in about["input"]["inside"]
    artifact = trace(tmp_path / "model")
    assert artifact.note == ""
    assert artifact.metadata["network"] == "+".join(NAMES)


def refused(message, *, names=NAMES[:2], unit=True, weights=None, side=32):
    backbone = BackboneSettings(name="timm", architecture="+".join(names), unit_features=unit)
    with pytest.raises(UserError, match=message) as caught:
        published_network(backbone, weights or [None] * len(names), channels=3, download=False, side=side)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_joined_is_refused():
    refused("network.unit_features: false found, expected true, since the features of several", unit=False)
    refused("has test_efficientnet.r160_in1k twice", names=[NAMES[0]] * 2)
    refused("has test_efficientnet.r160_in1k twice", names=["test_efficientnet", NAMES[0]])
    refused(r"pretrain.frozen.weights: 1 found, expected 2, one for each", weights=["package"])
    refused("'resnt18' found, which timm does not have", names=["resnet18", "resnt18"])
    names = ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]
    refused(r"side: null found, but .*lite0 expects images of 224 px .* 260 px .*such as 128", names=names, side=None)
    with pytest.raises(UserError, match=r"network.unit_features: true found, expected false with the name tiny_resnet"):
        BackboneSettings(name="tiny_resnet", unit_features=True).build(3)
    with pytest.raises(UserError, match="prefix and leave_out select among the weights of a file"):
        Settings(weights=("a.pth", "b.pth"), prefix="module.")


def test_the_first_network_decides_the_interpolation_and_a_line_says_so(files, capsys):
    backbone = BackboneSettings(name="timm", architecture=f"{NAMES[0]}+test_vit", unit_features=True)
    weights = [files[NAMES[0]], files[NAMES[1]]]  # without a tag, images are resized bilinearly
    network = published_network(backbone, weights, channels=3, download=False, side=32)
    assert network.input.interpolation == "bicubic"
    assert "test_vit expects images that are resized by bilinear interpolation" in " ".join(
        capsys.readouterr().out.split()
    )
