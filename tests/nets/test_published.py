"""Published architectures and weights against timm's, and nothing wrong passes; no test uses the internet."""

import json
from dataclasses import replace

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.methods.pretrain import frozen
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings
from sslpipe.nets.preprocessing import InputSettings, resize_and_crop
from sslpipe.nets.published import published_network
from sslpipe.nets.weights_files import WeightsFile

SMALL = BackboneSettings(name="timm", architecture="test_resnet.r160_in1k")
VIT = BackboneSettings(name="timm", architecture="test_vit.r160_in1k")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No weights are cached on this machine, and downloads fail at once."""

    def create(*arguments, **options):
        if options.get("pretrained") and not options["pretrained_cfg_overlay"]:
            raise FileNotFoundError("An error happened\nwhile trying to locate the file")
        return create_model(*arguments, **options)

    create_model = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)


def theirs(name):
    """timm's model in eval mode, with its classifier, whose every batch norm does something."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def small():
    return theirs("test_resnet").state_dict()


def load(path, backbone=SMALL, channels=3, **selection):
    return published_network(backbone, [WeightsFile(str(path), **selection)], channels=channels, download=False)


def refused(*parts, weights=None, backbone=SMALL, download=False, **selection):
    file = WeightsFile(str(weights), **selection) if weights else None
    with pytest.raises(UserError) as caught:
        published_network(backbone, [file], channels=3, download=download)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "name", ["test_vit.r160_in1k", "resnet18.a1_in1k", "mobilenetv3_small_050.lamb_in1k", "resnet18.a2_in1k"]
)
def test_features_are_timms_with_its_preprocessing(tmp_path, name, channels):
    model = theirs(name)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "any.safetensors")
    network = load(tmp_path / "any.safetensors", BackboneSettings(name="timm", architecture=name), channels)
    assert not network.training
    expected = timm.data.resolve_model_data_config(model)
    side = expected["input_size"][1]
    assert (network.input.crop, network.input.interpolation) == (side, expected["interpolation"])
    assert network.input.resize == int(side / expected["crop_pct"])
    images = torch.rand(2, channels, 28, 28)
    model.reset_classifier(0)
    mean, std = (torch.tensor(expected[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        features = network.features(images)
        torch.testing.assert_close(features, model((resize_and_crop(images, network.input) - mean) / std))
    assert features.shape == (2, network.backbone.dimension)


@pytest.mark.parametrize(("name", "side", "resized"), [("resnet18", 224, 256), ("test_vit", 160, 182)])
def test_weights_of_unknown_name_are_prepared_at_256_for_224(tmp_path, name, side, resized):
    safetensors.torch.save_file(theirs(name).state_dict(), tmp_path / "any.safetensors")
    network = load(tmp_path / "any.safetensors", BackboneSettings(name="timm", architecture=name))
    assert network.input == InputSettings(resize=resized, crop=side, interpolation="bilinear")


def test_the_side_is_that_of_the_weights(tmp_path, small):
    torch.save(small, tmp_path / "small.pth")
    backbone = replace(SMALL, side=160)
    network = load(tmp_path / "small.pth", backbone)
    stored = torch.rand(1, 3, 168, 168)  # timm's own size for these weights
    with torch.no_grad():
        expected = network.backbone((stored[..., 4:164, 4:164] - network.mean) / network.std)
        torch.testing.assert_close(network.features(stored), expected)
    message = "network.side: 144 found, expected 160, to which images are cropped for test_resnet.r160_in1k, or null"
    refused(message, weights=tmp_path / "small.pth", backbone=replace(backbone, side=144))


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("resnet18", 512),
        ("wide_resnet50_2", 2048),
        ("mobilenetv3_small_100", 1024),
        ("efficientnet_b0", 1280),
        ("densenet121", 1024),
        ("vgg11", 4096),
        ("convnext_tiny", 768),
        ("swin_tiny_patch4_window7_224", 768),
        ("vit_base_patch16_224", 768),
    ],
)
def test_features_have_the_announced_dimension(name, dimension):
    with torch.device("meta"):
        backbone = BackboneSettings(name="timm", architecture=name).build(1).eval()
        assert backbone(torch.rand(2, 1, 224, 224)).shape == (2, backbone.dimension) == (2, dimension)


def test_initial_weights_depend_on_the_global_seed_alone():
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(SMALL.build(3).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_batch_norm_momentum_reaches_published_batch_norms():
    layers = [m for m in replace(SMALL, batch_norm_momentum=0.02).build(3).modules() if isinstance(m, nn.BatchNorm2d)]
    assert layers
    assert all(layer.momentum == 0.02 for layer in layers)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"name": "timm"}, ["network.architecture: missing", "timm's"]),
        ({"name": "resnet18", "architecture": "resnet18"}, ["architecture: 'resnet18' found, expected none"]),
        ({"name": "timm", "architecture": "resnt18"}, ["timm does not have; did you mean 'resnet18'?"]),
        ({"name": "timm", "architecture": "resnet18.a4_in1k"}, ["timm does not have; did you mean 'resnet18.a"]),
        ({"name": "timm", "architecture": "resnet18", "stem": "stl"}, ["network.stem: 'stl'"]),
        ({"name": "timm", "architecture": "test_vit", "drop_path": 0.1}, ["network.drop_path: 0.1"]),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, parts):
    with pytest.raises(UserError) as caught:
        BackboneSettings(**settings).build(3)
    for part in parts:
        assert part in str(caught.value)


def test_images_of_a_side_that_the_architecture_does_not_take_are_refused():
    with torch.device("meta"):
        backbone = BackboneSettings(name="timm", architecture="vit_base_patch32_224").build(3)
        with pytest.raises(UserError, match=r"'vit_base_patch32_224' found, which does not accept images of 96 px \("):
            backbone(torch.rand(1, 3, 96, 96))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
def test_a_local_file_is_loaded_with_or_without_a_classifier_and_a_prefix(tmp_path, small, suffix, prefix):
    path = tmp_path / f"any{suffix}"
    weights = {prefix + name: tensor for name, tensor in small.items()}
    if prefix:
        weights = {name: tensor for name, tensor in weights.items() if "fc." not in name}
    if suffix == ".safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save({".pth": weights, ".pt": {"epoch": 3, "state_dict": weights}}.get(suffix, {"model": weights}), path)
    state = load(path).backbone.model.state_dict()
    assert not any("fc." in name for name in state)
    assert all(torch.equal(state[name], small[name]) for name in state)


@pytest.mark.parametrize(
    ("others", "selection"),
    [
        # As in MoCo's file: two encoders with a projection in the classifier's place, and a queue.
        (("encoder_k.", "queue"), {"prefix": "module.encoder_q."}),
        # As in SwAV's file.
        (
            ("projection_head.0.", "prototypes."),
            {"prefix": "module.", "leave_out": ("projection_head.", "prototypes.")},
        ),
    ],
)
def test_a_file_with_further_weights(tmp_path, small, others, selection, capsys):
    weights = {selection["prefix"] + name: tensor for name, tensor in small.items()}
    weights |= {f"module.{name}weight": torch.ones(3) for name in others}
    torch.save({"epoch": 800, "state_dict": weights}, tmp_path / "others.pth.tar")
    refused("others.pth.tar", weights=tmp_path / "others.pth.tar")
    state = load(tmp_path / "others.pth.tar", **selection).backbone.model.state_dict()
    assert state
    assert all(torch.equal(value, small[name]) for name, value in state.items())
    assert f"{len(small)} of {len(small) + 2} weights are the backbone's; 2 are left out" in capsys.readouterr().out


def test_a_selection_that_selects_nothing_is_refused(tmp_path, small):
    torch.save(small, tmp_path / "w.pth")
    refused("pretrain.frozen.prefix: 'encoder.' found", "conv1", weights=tmp_path / "w.pth", prefix="encoder.")
    refused("pretrain.frozen.leave_out: 'head.' found", weights=tmp_path / "w.pth", leave_out=("head.",))
    with pytest.raises(UserError, match="set weights"):
        frozen.Settings(prefix="module.")


def test_old_files_without_counts_of_batches_and_halved_ones_are_loaded(tmp_path, small):
    weights = {name: tensor.half() for name, tensor in small.items() if "num_batches_tracked" not in name}
    safetensors.torch.save_file(weights, tmp_path / "old.safetensors")
    state = load(tmp_path / "old.safetensors").backbone.model.state_dict()
    assert all(torch.equal(state[name], weights[name].float()) for name in state if name in weights)


CHANGES = [
    (lambda weights: weights.pop("conv1.0.weight"), "missing: conv1.0.weight"),
    (lambda weights: weights.update(more=torch.zeros(1)), "unexpected: more"),
    (
        lambda weights: weights.update({"bn1.bias": torch.zeros(3)}),
        "bn1.bias: float32 [3] found, expected float32 [32]",
    ),
    (lambda weights: weights.update({"bn1.bias": torch.full((32,), torch.nan)}), "bn1.bias: values that are not"),
    (lambda weights: weights.clear(), "0 weights found, expected the"),
]


@pytest.mark.parametrize(("change", "part"), CHANGES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_do_not_fit_are_refused(tmp_path, small, change, part, suffix):
    path, weights = tmp_path / f"any{suffix}", dict(small)
    change(weights)
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(weights, path)
    refused(str(path), part, weights=path)


def test_weights_of_another_architecture_are_refused(tmp_path, small):
    torch.save(small, tmp_path / "small.pth")
    refused("small.pth", "of timm's test_vit.r160_in1k", weights=tmp_path / "small.pth", backbone=VIT)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_that_cannot_be_read_are_refused(tmp_path, small, suffix):
    path = tmp_path / f"any{suffix}"
    refused(f"{path}: no such file", weights=path)
    path.mkdir()
    refused(f"{path}: ", weights=path)
    path.rmdir()
    for data in (b"", b"no weights at all " * 20, safetensors.torch.save(small)[:5000]):
        path.write_bytes(data)
        refused(f"{path}: not readable as weights", weights=path)


class Code:
    """An object that runs code when it is unpickled by pickle itself."""

    def __reduce__(self):
        return pytest.fail, ("code was run",)


def test_a_file_with_code_is_refused_and_not_run(tmp_path):
    torch.save({"a": Code()}, tmp_path / "any.pth")
    refused("any.pth: not readable as weights", weights=tmp_path / "any.pth")


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": 5}, {"epoch": 3}, torch.zeros(3)])
def test_a_file_without_weights_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "any.pth")
    refused("any.pth: no named weights found", weights=tmp_path / "any.pth")


@pytest.mark.parametrize("name", ["DEFAULT", "IMAGENET1K_V1", "tv_in1k"])
def test_a_name_of_weights_is_refused_with_where_it_belongs(name):
    refused(f"{name}: no such file", "network.architecture, such as resnet50.tv_in1k", weights=name)


def test_missing_weights_are_named_with_what_to_do():
    advice = ["download: true", "test_vit.r160_in1k/resolve/main/model.safetensors", "pretrain.frozen.weights to the"]
    refused("timm's test_vit.r160_in1k not found", *advice, backbone=VIT)
    refused("'test_vit' found", "such as test_vit.r160_in1k", backbone=replace(VIT, architecture="test_vit"))
    refused("timm has no weights for botnet50ts_256", backbone=replace(VIT, architecture="botnet50ts_256"))


def test_a_download_that_fails_is_one_line():
    parts = ["cannot be downloaded (An error happened while trying to locate the file)", "pretrain.frozen.weights to"]
    refused(*parts, backbone=VIT, download=True)


@pytest.mark.parametrize("download", [False, True])
def test_cached_weights_are_used(tmp_path, monkeypatch, small, download):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(small, path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    network = published_network(SMALL, [None], channels=3, download=download)
    state = network.backbone.model.state_dict()
    assert all(torch.equal(state[name], small[name]) for name in state)


@pytest.mark.parametrize(
    "damage", [lambda weights: weights.pop("layer1.0.conv1.weight"), lambda weights: weights.clear()]
)
def test_cached_weights_that_are_incomplete_are_refused(tmp_path, monkeypatch, small, damage):
    path, weights = tmp_path / "model.safetensors", dict(small)
    damage(weights)
    safetensors.torch.save_file(weights, path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    refused(f"{path}: not readable as weights of test_resnet")


def test_cached_weights_that_were_cut_off_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"cut off")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    refused(f"{path}: not readable as weights of test_resnet")


def test_weights_in_a_foreign_format_are_cached_in_timms(tmp_path, monkeypatch):
    architecture = "vit_tiny_patch16_224.augreg_in21k"  # published as .npz, on the hub as .safetensors
    assert timm.models.get_pretrained_cfg(architecture).custom_load
    weights = theirs(architecture).state_dict()
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
    backbone = replace(SMALL, architecture=architecture)
    state = published_network(backbone, [None], channels=3, download=False).backbone.model.state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in state)


@pytest.mark.parametrize("settings", [{"name": "tiny_resnet"}, {"name": "timm"}])
def test_a_backbone_without_published_weights_is_refused(settings):
    refused("expected name timm and one of its architectures", backbone=BackboneSettings(**settings))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_published_network_comes_back_bit_for_bit(tmp_path, small, channels):
    torch.save(small, tmp_path / "small.pth")
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    network = load(tmp_path / "small.pth", channels=channels)
    assert torch.equal(torch.rand(1), expected)  # the generator was left alone
    info = StoreInfo(
        size=16, channels=channels, mean=(0.25,) * channels, std=(0.5,) * channels, train=1, held_out=1,
        test=1, protocol="split", fingerprint="f",
    )  # fmt: skip
    save_model(tmp_path / "model", network, card_for("pretrain", info, {}, parent=None))
    loaded, _ = load_model(tmp_path / "model")
    assert (loaded.settings, loaded.input, loaded.channels) == (network.settings, network.input, channels)
    assert loaded.input == InputSettings(resize=168, crop=160, interpolation="bilinear")
    assert loaded.image_mean == network.image_mean
    images = torch.rand(1, channels, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.eval().features(images), network.features(images))


def test_a_card_with_an_unknown_architecture_is_refused(tmp_path, small):
    test_a_published_network_comes_back_bit_for_bit(tmp_path, small, 3)
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    content["network"]["backbone"]["architecture"] = "mobilenet_v4"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model.json: network.architecture: 'mobilenet_v4' found, which timm"):
        load_model(tmp_path / "model")
