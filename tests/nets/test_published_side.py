"""Published networks at another side than their own, against timm's own resampling of position embeddings."""

import warnings

import pytest
import safetensors.torch
import timm
import torch

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings
from sslpipe.nets.preprocessing import InputSettings
from sslpipe.nets.published import published_network
from sslpipe.nets.weights_files import WeightsFile

DINOV2, DINOV3 = "vit_small_patch14_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"


def _changed(tensor):
    """A tensor that is nowhere constant, as trained ones."""
    return tensor + 0.02 * torch.rand_like(tensor) if tensor.is_floating_point() else tensor


INFO = StoreInfo(
    size=40, channels=3, mean=(0.4,) * 3, std=(0.3,) * 3, train=1, held_out=1, test=1, protocol="split", fingerprint="f"
)


@pytest.fixture(autouse=True)
def no_twins(monkeypatch):
    """Architectures that take the same weights are not searched for: test_weights_owner.py."""
    monkeypatch.setattr("sslpipe.nets.weights_owner.twins", lambda _: ())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of random weights for the architectures' own sides, made when asked for."""
    folder = tmp_path_factory.mktemp("weights")

    def of(architecture):
        path = folder / f"{architecture}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            model = timm.create_model(architecture)
            safetensors.torch.save_file({name: _changed(tensor) for name, tensor in model.state_dict().items()}, path)
        return path

    return of


def load(path, architecture, side, channels=3):
    backbone = BackboneSettings(name="timm", architecture=architecture)
    return published_network(backbone, [WeightsFile(str(path))], channels=channels, download=False, side=side)


@pytest.mark.parametrize(
    ("architecture", "side"),
    [
        (DINOV2, 126),
        (DINOV3, 112),
        ("test_vit.r160_in1k", 64),
        ("swin_tiny_patch4_window7_224.ms_in1k", 128),
        ("resnet18.a1_in1k", 96),
    ],
)
@torch.no_grad()
def test_weights_are_resampled_as_by_timm(files, tmp_path, architecture, side):
    path = files(architecture)
    network = load(path, architecture, side)
    assert network.input == InputSettings(resize=side, crop=side, interpolation="bicubic")
    images = torch.rand(2, 3, side, side)
    options = {"img_size": side} if timm.get_pretrained_cfg(architecture).fixed_input_size else {}
    overlay = {"file": str(path), "custom_load": False}
    with warnings.catch_warnings(action="ignore"):
        theirs = timm.create_model(
            architecture, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **options
        ).eval()
    expected = theirs((images - network.mean) / network.std)
    torch.testing.assert_close(network.features(images), expected)

    save_model(tmp_path / "model", network, card_for("pretrain", INFO, {}, parent=None))
    loaded, _ = load_model(tmp_path / "model")
    stored = torch.rand(2, 3, 40, 40)
    assert torch.equal(loaded.eval().features(stored), network.features(stored))


@torch.no_grad()
def test_dinov3_has_no_position_embedding_that_depends_on_the_side(files):
    native = timm.create_model(DINOV3, num_classes=0).eval()
    native.load_state_dict(safetensors.torch.load_file(files(DINOV3)), strict=False)
    network = load(files(DINOV3), DINOV3, 112)
    images = torch.rand(1, 3, 112, 112)
    torch.testing.assert_close(network.features(images), native((images - network.mean) / network.std))


@torch.no_grad()
def test_weights_that_were_saved_at_the_side_are_loaded_as_they_are(files, tmp_path):
    first = load(files("test_vit.r160_in1k"), "test_vit.r160_in1k", 64)
    torch.save(first.backbone.model.state_dict(), tmp_path / "resampled.pth")
    second = load(tmp_path / "resampled.pth", "test_vit.r160_in1k", 64)
    assert torch.equal(first.backbone.model.pos_embed, second.backbone.model.pos_embed)


@pytest.mark.parametrize(
    ("architecture", "side", "message"),
    [
        (DINOV2, 128, "side: 128 found, expected a multiple of 14 px, the patches of .* such as 126 or 140"),
        (DINOV3, 126, "side: 126 found, expected a multiple of 16 px, the patches of .* such as 112 or 128"),
        ("test_vit.r160_in1k", 8, "such as 16$"),
        ("mixer_s16_224", 128, "side: 128 found, which mixer_s16_224 does not accept"),
    ],
)
def test_sides_that_do_not_fit_are_refused_in_one_line(files, architecture, side, message):
    with pytest.raises(UserError, match=message) as caught:
        load(files(architecture), architecture, side)
    assert "\n" not in str(caught.value)


def test_weights_with_patches_of_another_size_are_refused_and_not_interpolated(files, tmp_path):
    weights = safetensors.torch.load_file(files("test_vit.r160_in1k"))
    weights["patch_embed.proj.weight"] = torch.rand(64, 3, 8, 8)
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"patch_embed.proj.weight: float32 \[64, 3, 8, 8\] found, expected"):
        load(tmp_path / "other.pth", "test_vit.r160_in1k", 64)
