"""Published architectures and weights against their libraries', and nothing wrong passes; the network is not used."""

import json
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from torchvision.models import ResNet18_Weights, ViT_B_16_Weights, get_model
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as V

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.libraries import InputSettings, resize_and_crop
from sslpipe.nets.model_file import card_for, load_model, save_model
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.published import find_weights, published_network

RESNET = BackboneSettings(name="torchvision", architecture="resnet18")
SMALL = BackboneSettings(name="torchvision", architecture="mobilenet_v3_small")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Nothing lies on this machine, and fetching fails at once."""

    def refuse(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.urlopen", refuse)


def theirs(name, **options):
    """torchvision's model in eval mode, with its classifier, whose every batch norm does something."""
    torch.manual_seed(0)
    model = get_model(name, weights=None, **options).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def small():
    return theirs("mobilenet_v3_small").state_dict()


def load(path, backbone=SMALL, channels=3):
    return published_network(backbone, str(path), channels=channels, download=False)


def refused(*parts, weights="DEFAULT", backbone=SMALL, download=False):
    with pytest.raises(UserError) as caught:
        published_network(backbone, str(weights), channels=3, download=download)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 300)])
def test_features_are_torchvisions_on_its_own_preprocessing(tmp_path, channels, side):
    model = theirs("resnet18")
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    network = load(tmp_path / "resnet18.pth", RESNET, channels)
    assert not network.training
    model.fc = nn.Identity()
    images = torch.randint(0, 256, (2, channels, side, side), dtype=torch.uint8)
    prepare = ResNet18_Weights.DEFAULT.transforms()
    colour = images.expand(-1, 3, -1, -1)
    with torch.no_grad():
        features = network.features(images / 255)
        torch.testing.assert_close(features, model(prepare(colour / 255)))
        expected = model(prepare(colour))  # torchvision rounds to 8 bits after resizing, which is left out here
    assert features.shape == (2, 512)
    assert (features - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(15, 10), (15, 12), (40, 40), (37, 32)])
@pytest.mark.parametrize("shape", [(20, 20), (20, 31), (33, 17)])
def test_resizing_and_cropping_are_torchvisions(interpolation, resize, crop, shape):
    images = torch.rand(2, 3, *shape)
    expected = V.resize(images, [resize], InterpolationMode(interpolation), antialias=True)
    expected = V.center_crop(expected, [crop, crop])
    settings = InputSettings(resize=resize, crop=crop, interpolation=interpolation)
    torch.testing.assert_close(resize_and_crop(images, settings), expected.clamp(0, 1))


def test_a_crop_of_more_than_the_image_is_refused():
    with pytest.raises(UserError, match="crop: 225 px found, expected at most resize, 224 px"):
        InputSettings(resize=224, crop=225, interpolation="bilinear")


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("resnet18", 512),
        ("wide_resnet50_2", 2048),
        ("mobilenet_v3_small", 1024),
        ("efficientnet_b0", 1280),
        ("shufflenet_v2_x0_5", 1024),
        ("densenet121", 1024),
        ("vgg11", 4096),
        ("convnext_tiny", 768),
        ("swin_t", 768),
        ("vit_b_16", 768),
    ],
)
def test_features_have_the_announced_dimension(name, dimension):
    with torch.device("meta"):
        backbone = BackboneSettings(name="torchvision", architecture=name).build(3).eval()
        assert backbone(torch.rand(2, 3, 224, 224)).shape == (2, backbone.dimension) == (2, dimension)


def test_start_values_are_a_function_of_the_global_seed_alone():
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(SMALL.build(3).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_batch_norm_momentum_reaches_published_batch_norms():
    settings = BackboneSettings(name="torchvision", architecture="resnet18", batch_norm_momentum=0.02)
    with torch.device("meta"):
        layers = [m for m in settings.build(3).modules() if isinstance(m, nn.BatchNorm2d)]
    assert layers
    assert all(layer.momentum == 0.02 for layer in layers)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"name": "torchvision"}, ["network.architecture: missing", "torchvision's"]),
        ({"name": "resnet18", "architecture": "resnet18"}, ["architecture: 'resnet18' found, expected none"]),
        ({"name": "torchvision", "architecture": "resnt18"}, ["torchvision does not have; did you mean 'resnet18'?"]),
        ({"name": "torchvision", "architecture": "fcn_resnet50"}, ["torchvision does not have"]),
        ({"name": "torchvision", "architecture": "squeezenet1_1"}, ["ends in one linear layer"]),
        ({"name": "torchvision", "architecture": "googlenet"}, ["ends in one linear layer"]),
        ({"name": "torchvision", "architecture": "resnet18", "stem": "stl"}, ["network.stem: 'stl'"]),
        ({"name": "torchvision", "architecture": "vit_b_16", "drop_path": 0.1}, ["network.drop_path: 0.1"]),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, parts):
    with pytest.raises(UserError) as caught:
        BackboneSettings(**settings).build(3)
    for part in parts:
        assert part in str(caught.value)


def test_images_of_a_side_that_the_architecture_does_not_take_are_refused():
    with torch.device("meta"):
        backbone = BackboneSettings(name="torchvision", architecture="vit_b_32").build(3)
        with pytest.raises(UserError, match=r"'vit_b_32' found, which does not accept images of 96 px \(Wrong image"):
            backbone(torch.rand(1, 3, 96, 96))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
def test_a_local_file_is_loaded_with_or_without_a_classifier_and_a_prefix(tmp_path, small, suffix, prefix):
    path = tmp_path / f"any{suffix}"
    weights = {prefix + name: tensor for name, tensor in small.items()}
    if prefix:
        weights = {name: tensor for name, tensor in weights.items() if "classifier.3" not in name}
    if suffix == ".safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save({".pth": weights, ".pt": {"epoch": 3, "state_dict": weights}}.get(suffix, {"model": weights}), path)
    state = load(path).backbone.model.state_dict()
    assert not any("classifier.3" in name for name in state)
    assert all(torch.equal(state[name], small[name]) for name in state)


def test_old_files_without_counts_of_batches_and_halved_ones_are_loaded(tmp_path, small):
    weights = {name: tensor.half() for name, tensor in small.items() if "num_batches_tracked" not in name}
    safetensors.torch.save_file(weights, tmp_path / "old.safetensors")
    state = load(tmp_path / "old.safetensors").backbone.model.state_dict()
    assert all(torch.equal(state[name], weights[name].float()) for name in state if name in weights)


def test_names_that_densenets_files_have_are_translated(tmp_path):
    weights = theirs("densenet121").state_dict()
    dotted = {
        name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1.")
        if "denselayer" in name
        else name: tensor
        for name, tensor in weights.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in dotted
    torch.save(dotted, tmp_path / "densenet.pth")
    backbone = BackboneSettings(name="torchvision", architecture="densenet121")
    state = load(tmp_path / "densenet.pth", backbone).backbone.model.state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in state)


def test_a_file_of_a_published_name_gets_the_preprocessing_of_that_name(tmp_path):
    backbone = BackboneSettings(name="torchvision", architecture="vit_b_16")
    entry = ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1
    known, other = (find_weights(backbone, str(tmp_path / name)) for name in (Path(entry.url).name, "mine.pth"))
    assert known.input == InputSettings(resize=384, crop=384, interpolation="bicubic")
    assert other.input == InputSettings(resize=256, crop=224, interpolation="bilinear")
    with torch.device("meta"):  # and the vit is built for that side
        network = Network(backbone, mean=known.mean, std=known.std, input=known.input)
        assert network.features(torch.rand(1, 3, 32, 32)).shape == (1, 768)


CHANGES = [
    (lambda weights: weights.pop("features.0.0.weight"), "missing: features.0.0.weight"),
    (lambda weights: weights.update(more=torch.zeros(1)), "unexpected: more"),
    (lambda weights: weights.update({"features.0.0.weight": torch.zeros(3)}), "weight: [3] found, expected [16, 3, 3"),
    (lambda weights: weights.update({"features.0.1.bias": torch.full((16,), torch.nan)}), "0.1.bias: values that are"),
    (lambda weights: weights.clear(), "0 weights found, expected those of mobilenet_v3_small; missing: features"),
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
    refused("small.pth", "expected those of resnet18", weights=tmp_path / "small.pth", backbone=RESNET)


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


def test_weights_that_are_not_here_are_named_with_what_to_do():
    entry = ResNet18_Weights.DEFAULT
    place = str(Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name)
    advice = ["pretrain.frozen.download: true", entry.url, "set pretrain.frozen.weights to the file"]
    refused("resnet18 IMAGENET1K_V1 not found", place, *advice, backbone=RESNET)


def test_a_download_that_fails_is_one_line():
    parts = ["cannot be downloaded (<urlopen error Name or service not known>)", ResNet18_Weights.DEFAULT.url]
    refused(*parts, "set pretrain.frozen.weights to the file", backbone=RESNET, download=True)


@pytest.mark.parametrize("download", [False, True])
def test_weights_that_were_fetched_before_are_taken_from_there(small, download):
    entry = torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    path.parent.mkdir(parents=True)
    torch.save(small, path)
    network = published_network(SMALL, "IMAGENET1K_V1", channels=3, download=download)
    state = network.backbone.model.state_dict()
    assert all(torch.equal(state[name], small[name]) for name in state)


def test_unknown_names_of_weights_are_refused():
    parts = ["pretrain.frozen.weights: 'IMAGENET_V1' found", "did you mean 'IMAGENET1K_V1'?", "DEFAULT"]
    refused(*parts, weights="IMAGENET_V1", backbone=RESNET)


@pytest.mark.parametrize("settings", [{"name": "tiny_resnet"}, {"name": "torchvision"}])
def test_a_backbone_without_published_weights_is_refused(settings):
    refused("expected name torchvision or timm", backbone=BackboneSettings(**settings))


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
    assert loaded.input == InputSettings(resize=256, crop=224, interpolation="bilinear")
    assert loaded.image_mean == network.image_mean
    images = torch.rand(1, channels, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.eval().features(images), network.features(images))


def test_mnasnets_which_want_a_version_come_back(tmp_path):
    network = Network(BackboneSettings(name="torchvision", architecture="mnasnet0_5"), mean=[0.5] * 3, std=[1.0] * 3)
    info = StoreInfo(
        size=16, channels=3, mean=(0.5,) * 3, std=(1.0,) * 3, train=1, held_out=1, test=1,
        protocol="split", fingerprint="f",
    )  # fmt: skip
    save_model(tmp_path, network, card_for("pretrain", info, {}, parent=None))
    state = load_model(tmp_path)[0].state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_a_card_with_an_unknown_architecture_is_refused(tmp_path, small):
    test_a_published_network_comes_back_bit_for_bit(tmp_path, small, 3)
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    content["network"]["backbone"]["architecture"] = "mobilenet_v4"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model.json: network.architecture: 'mobilenet_v4' found, which torchvision"):
        load_model(tmp_path / "model")


def test_without_timm_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"^network.name: timm is not installed; pip install timm$"):
        BackboneSettings(name="timm", architecture="resnet18").build(3)


class TestTimm:
    """Where timm is installed."""

    TINY = BackboneSettings(name="timm", architecture="test_vit")

    @pytest.fixture(autouse=True)
    def timm(self):
        self.timm = pytest.importorskip("timm")
        # timm brings it; asked for weights that are not cached, it would retry for a minute.
        self.hub = pytest.importorskip("huggingface_hub")

    @pytest.mark.parametrize("name", ["test_vit", "resnet18", "mobilenetv3_small_050", "resnet18.a2_in1k"])
    def test_features_are_timms_on_a_local_file(self, tmp_path, name):
        torch.manual_seed(0)
        model = self.timm.create_model(name, pretrained=False).eval()
        safetensors.torch.save_file(model.state_dict(), tmp_path / "any.safetensors")
        network = load(tmp_path / "any.safetensors", BackboneSettings(name="timm", architecture=name), 1)
        expected = self.timm.data.resolve_model_data_config(model)
        side = expected["input_size"][1]
        assert (network.input.crop, network.input.interpolation) == (side, expected["interpolation"])
        assert network.input.resize == int(side / expected["crop_pct"])
        images = torch.rand(2, 1, 28, 28)
        model.reset_classifier(0)
        mean, std = (torch.tensor(expected[key]).view(3, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            features = network.features(images)
            torch.testing.assert_close(features, model((resize_and_crop(images, network.input) - mean) / std))
        assert features.shape == (2, network.backbone.dimension)

    def test_names_of_weights_are_tags(self):
        found = find_weights(BackboneSettings(name="timm", architecture="resnet18"), "tv_in1k")
        assert found.backbone.architecture == "resnet18.tv_in1k"
        assert found.input == InputSettings(resize=256, crop=224, interpolation="bilinear")

    def test_weights_that_are_cached_are_taken_from_there(self, tmp_path, monkeypatch):
        weights = self.timm.create_model("test_vit", pretrained=False).state_dict()
        safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
        monkeypatch.setattr(self.hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
        state = published_network(self.TINY, "DEFAULT", channels=3, download=False).backbone.model.state_dict()
        assert all(torch.equal(state[name], weights[name]) for name in state)
        (tmp_path / "model.safetensors").write_bytes(b"cut off")
        refused(f"{tmp_path / 'model.safetensors'}: not readable as weights of test_vit", backbone=self.TINY)

    def test_what_is_not_there_is_one_line(self, monkeypatch):
        monkeypatch.setattr(self.hub, "try_to_load_from_cache", lambda *_: None)
        refused("timm's test_vit r160_in1k not found", "download: true", backbone=self.TINY)
        refused("'r16' found", "did you mean 'r160_in1k'?", weights="r16", backbone=self.TINY)
        for name in ("test_vt", "test_vit.r16"):
            refused("timm does not have", backbone=BackboneSettings(name="timm", architecture=name))
        refused("timm has none for", backbone=BackboneSettings(name="timm", architecture="botnet50ts_256"))

    def test_a_download_that_fails_is_one_line(self, monkeypatch):
        def fail(*_, **options):
            if options["pretrained"]:
                raise FileNotFoundError("An error happened\nwhile trying to locate the file")
            return create(*_, **options)

        create = self.timm.create_model
        monkeypatch.setattr(self.hub, "try_to_load_from_cache", lambda *_: None)
        monkeypatch.setattr(self.timm, "create_model", fail)
        refused("cannot be downloaded (An error happened while trying", backbone=self.TINY, download=True)
