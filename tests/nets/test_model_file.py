"""A model's folder: what is written comes back bit for bit, and nothing wrong passes."""

import json
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import pytest
import safetensors.torch
import torch

from sslpipe.data.images import Images
from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.heads import ClusterSettings, InstanceSettings, LinearSettings, ProjectionSettings, PrototypeSettings
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import check_data, check_side, load_model, load_with_monitors, save_model
from sslpipe.nets.model_paths import weights_path
from sslpipe.nets.monitors import LinearMonitors
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.propagation_head import PropagationSettings
from sslpipe.running import evaluation

TINY = BackboneSettings(name="tiny_resnet")
INFO = StoreInfo(
    size=16,
    channels=3,
    mean=(0.4914, 0.48, 0.1),
    std=(0.2, 1 / 3, 0.26),
    train=8,
    held_out=2,
    test=2,
    protocol="split",
    fingerprint="0123456789abcdef",
)


@dataclass(frozen=True)
class Fit:
    rates: tuple[float, ...] = (0.1, 0.01)


@dataclass(frozen=True)
class Settings:
    temperature: float = 0.1
    fit: Fit = Fit()


def make(folder, backbone=TINY, head=None, parent=None):
    """Save a network whose every weight and buffer differs from its start value."""
    network = Network(backbone, head, mean=INFO.mean, std=INFO.std)
    generator = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
        else:
            tensor.fill_(7)
    save_model(folder, network, card_for("pretrain", INFO, Settings(), parent=parent, classes=("a", "ö")))
    return network


@pytest.fixture
def folder(tmp_path):
    make(tmp_path, head=LinearSettings(outputs=4))
    return tmp_path


HEADS = [
    None,
    LinearSettings(outputs=3),
    ClusterSettings(clusters=3, heads=2),
    ProjectionSettings(hidden=5, outputs=2, batch_norm=True),
    ProjectionSettings(outputs=2, depth=1),
    PrototypeSettings(prototypes=3, hidden=5, outputs=2, temperature=0.07),
    InstanceSettings(classes=3),
    PropagationSettings(answer="product", classes=3, images=7, components=5),
    PropagationSettings(answer="propagation", classes=3, images=7, components=None),
    PropagationSettings(answer="probe", classes=3, images=None, components=5),
]
BACKBONES = [
    TINY,
    BackboneSettings(name="resnet18", stem="stl"),
    BackboneSettings(name="resnet34"),
    BackboneSettings(name="resnet50", stem="imagenet"),
    BackboneSettings(name="wrn_28_2", batch_norm_momentum=0.001),
    BackboneSettings(name="wrn_28_8"),
    BackboneSettings(name="wrn_37_2"),
    BackboneSettings(name="vit_mini_4", drop_path=0.1),
]


@pytest.mark.parametrize(
    ("backbone", "head"), [*((backbone, None) for backbone in BACKBONES), *((TINY, head) for head in HEADS)]
)
def test_a_model_comes_back_bit_for_bit_and_is_written_as_the_same_bytes(tmp_path, backbone, head):
    network = make(tmp_path / "one", backbone, head, parent="p" * 64)
    loaded, card = load_model(tmp_path / "one")
    assert loaded.settings == backbone
    assert getattr(loaded.head, "settings", None) == head
    for kind in ("parameters", "buffers"):
        pairs = zip(getattr(network, f"named_{kind}")(), getattr(loaded, f"named_{kind}")(), strict=True)
        for (name, tensor), (other_name, other) in pairs:
            assert name == other_name
            assert torch.equal(tensor, other)
    save_model(tmp_path / "two", loaded, card)
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_loaded_model_answers_as_the_saved_one(tmp_path):
    network = make(tmp_path, head=ClusterSettings(clusters=3, heads=2)).eval()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(load_model(tmp_path)[0].eval()(images), network(images))


def test_a_loaded_model_knows_the_size_of_its_images(tmp_path):
    make(tmp_path, BackboneSettings(name="vit_mini_4"))
    network, card = load_model(tmp_path)
    assert network.backbone.whole_side == card.size == 16


def test_a_card_of_before_stochastic_depth_still_loads(folder):
    change_card(folder, lambda card: card["network"]["backbone"].pop("drop_path"))
    assert load_model(folder)[0].settings == TINY


@pytest.mark.parametrize(("side", "found"), [(12, "12"), (None, "null")])
def test_the_card_has_the_stored_size_and_the_networks_side(tmp_path, side, found):
    make(tmp_path, replace(TINY, side=side))
    network, card = load_model(tmp_path)
    assert (network.side, card.size) == (side, 16)
    check_side(network, side, tmp_path)
    message = f"model.json: network.side: {found} found, expected 8 as in params.yaml; run the stage that writes it"
    with pytest.raises(UserError, match=message):
        check_side(network, 8, tmp_path)


def test_a_card_of_before_the_networks_side_still_loads(folder):
    change_card(folder, lambda card: card["network"]["backbone"].pop("side"))
    assert load_model(folder)[0].side is None


def test_a_card_of_before_unit_features_still_loads(folder):
    change_card(folder, lambda card: card["network"]["backbone"].pop("unit_features"))
    assert load_model(folder)[0].settings == TINY


def test_a_card_of_before_published_networks_still_loads(folder):
    change_card(folder, lambda card: (card["network"].pop("input"), card["network"]["backbone"].pop("architecture")))
    network, _ = load_model(folder)
    assert (network.settings, network.input) == (TINY, None)


def test_grey_images_may_meet_three_means(folder):
    change_card(folder, lambda card: card.update(channels=1))
    network, _ = load_model(folder)
    assert network.image_mean == pytest.approx([sum(INFO.mean) / 3])
    assert network.eval()(torch.rand(2, 1, 16, 16)).shape == (2, 4)


def test_the_input_is_checked(folder):
    change_card(folder, lambda card: card["network"].update(input={"resize": 8, "crop": 9, "interpolation": "nearest"}))
    refused(folder, "network.input: crop: 9 px found, expected at most resize, 8 px")


def test_channels_last_weights_are_written_as_the_same_bytes(tmp_path):
    network = make(tmp_path / "one", BackboneSettings(name="wrn_28_2"))
    _, card = load_model(tmp_path / "one")
    save_model(tmp_path / "two", network.to(memory_format=torch.channels_last), card)
    assert weights_path(tmp_path / "one").read_bytes() == weights_path(tmp_path / "two").read_bytes()


def test_the_card_says_what_the_model_is_and_where_it_is_from(folder):
    content = json.loads((folder / "model.json").read_text())
    assert content == {
        "network": {
            "backbone": {
                "name": "tiny_resnet",
                "architecture": None,
                "unit_features": False,
                "stem": "cifar",
                "batch_norm_momentum": 0.1,
                "drop_path": 0.0,
                "convolution_init": "he",
                "side": None,
            },
            "head": {"kind": "linear", "outputs": 4},
            "mean": [0.4914, 0.48, 0.1],
            "std": pytest.approx([0.2, 1 / 3, 0.26]),
            "input": None,
            "monitors": [],
        },
        "stage": "pretrain",
        "size": 16,
        "channels": 3,
        "classes": ["a", "ö"],
        "data": "0123456789abcdef",
        "parent": None,
        "settings": {"temperature": 0.1, "fit": {"rates": [0.1, 0.01]}},
        "inputs": {},
        "version": version("sslpipe"),
    }
    _, card = load_model(folder)
    assert (card.stage, card.classes, card.parent) == ("pretrain", ("a", "ö"), None)
    assert card.settings["temperature"] == 0.1


def test_loading_leaves_the_global_generator_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_model(folder)
    assert torch.equal(torch.rand(1), expected)


def refused(folder, *parts):
    """Load, and look for the parts in the one line of the error."""
    with pytest.raises(UserError) as caught:
        load_model(folder)
    line = str(caught.value)
    assert "\n" not in line
    for part in (str(folder), *parts):
        assert part in line


def change_card(folder, change):
    path = folder / "model.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_weights(folder, change):
    path = weights_path(folder)
    weights = safetensors.torch.load(path.read_bytes())
    change(weights)
    path.write_bytes(safetensors.torch.save(weights))


def test_a_missing_folder_is_refused(tmp_path):
    refused(tmp_path / "runs" / "pretrain", "model.json", "no such file", "run 'sslpipe pretrain'")


def test_missing_weights_are_refused(folder):
    weights_path(folder).unlink()
    refused(folder, "model.safetensors", "no such file", "run the stage 'pretrain' again")


def test_weights_that_are_a_folder_are_refused(folder):
    weights_path(folder).unlink()
    weights_path(folder).mkdir()
    refused(folder, "model.safetensors", "cannot be read")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_weights_are_refused(folder, share):
    data = weights_path(folder).read_bytes()
    weights_path(folder).write_bytes(data[: int(share * len(data))])
    refused(folder, "model.safetensors", "not readable as weights")


def test_weights_that_are_no_weights_are_refused(folder):
    weights_path(folder).write_bytes(b"a pickle, perhaps" * 10)
    refused(folder, "model.safetensors", "not readable as weights")


def test_a_truncated_card_is_refused(folder):
    path = folder / "model.json"
    path.write_text(path.read_text()[:100])
    refused(folder, "model.json", "not readable as JSON")


def test_missing_weight_is_refused(folder):
    change_weights(folder, lambda weights: weights.pop("head.bias"))
    refused(folder, "model.safetensors", "missing: head.bias")


def test_missing_batch_norm_statistics_are_refused(folder):
    change_weights(folder, lambda weights: weights.pop("backbone.stem.1.running_var"))
    refused(folder, "missing: backbone.stem.1.running_var")


def test_unexpected_weight_is_refused(folder):
    change_weights(folder, lambda weights: weights.update(extra=torch.zeros(1), more=torch.zeros(1)))
    refused(folder, "unexpected: extra and 1 more")


def test_another_shape_is_refused(folder):
    change_weights(folder, lambda weights: weights.update({"head.bias": torch.zeros(5)}))
    refused(folder, "head.bias: float32 [5] found, expected float32 [4]")


def test_another_type_is_refused(folder):
    change_weights(folder, lambda weights: weights.update({"head.bias": torch.zeros(4, dtype=torch.float16)}))
    refused(folder, "head.bias: float16 [4] found, expected float32 [4]")


def test_weights_of_another_architecture_are_refused(folder, tmp_path):
    make(tmp_path / "other", BackboneSettings(name="wrn_28_2"), LinearSettings(outputs=4))
    weights_path(folder).write_bytes(weights_path(tmp_path / "other").read_bytes())
    refused(folder, "model.safetensors", "missing: backbone.stem.0.weight")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda card: card.pop("size"), ["size: missing"]),
        (lambda card: card.update(size="16"), ["size: '16' found, expected a whole number"]),
        (lambda card: card.update(colour=1), ["colour: unknown key"]),
        (lambda card: card.pop("settings"), ["settings: None found"]),
        (lambda card: card.pop("network"), ["network.backbone: missing"]),
        (lambda card: card["network"]["backbone"].update(name="resnet19"), ["resnet19", "resnet18"]),
        (lambda card: card["network"]["backbone"].update(stem="stl"), ["network.stem"]),
        (
            lambda card: card["network"]["backbone"].update(side=17),
            ["network.side: 17 px found, expected at most 16, the images' size"],
        ),
        (lambda card: card["network"]["backbone"].update(drop_path=0.1), ["network.drop_path: 0.1 found, expected 0"]),
        (lambda card: card["network"]["head"].update(kind="none"), ["network.head"]),
        (lambda card: card["network"].update(mean=[0.5]), ["mean: 1 values found, expected 3"]),
        (lambda card: card["network"].update(std=[0.5, 0.5, 0.0]), ["std[2]: 0.0 is out of range"]),
        (lambda card: card["network"]["head"].update(outputs=9), ["head.weight: float32 [4, 64] found", "[9, 64]"]),
    ],
)
def test_a_card_that_does_not_fit_is_refused(folder, change, parts):
    change_card(folder, change)
    refused(folder, *parts)


def test_a_card_that_is_no_block_is_refused(folder):
    (folder / "model.json").write_text("[1]")
    refused(folder, "model.json", "expected a block of keys")


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (replace(INFO, fingerprint="fedcba9876543210"), "data: 0123456789ab found, expected fedcba987654"),
        (replace(INFO, size=32), "size: 16 px found, expected 32 px"),
        (replace(INFO, channels=1), "channels: 3 found, expected 1"),
    ],
)
def test_a_model_of_other_data_is_refused(folder, other, part):
    _, card = load_model(folder)
    check_data(card, INFO, folder)
    with pytest.raises(UserError) as caught:
        check_data(card, other, folder)
    assert str(caught.value).startswith(f"{folder}: {part}")


def test_a_disk_that_refuses_is_one_line_and_leaves_the_old_file(folder, monkeypatch):
    before = weights_path(folder).read_bytes()
    network, card = load_model(folder)
    torch.nn.init.zeros_(network.head.weight)

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match=r"model.safetensors: cannot be written: No space left on device"):
        save_model(folder, network, card)
    monkeypatch.undo()
    assert weights_path(folder).read_bytes() == before


def test_weights_that_are_no_numbers_are_refused(folder):
    network, card = load_model(folder)
    torch.nn.init.constant_(network.backbone.stem[0].weight, float("nan"))
    save_model(folder, network, card)
    with pytest.raises(UserError, match=r"model\.safetensors: backbone\.stem\.0\.weight: .*not finite"):
        load_model(folder)


@pytest.fixture
def watched(tmp_path):
    """A saved network of three prototypes, and the classifiers on its layers that were saved with it."""
    network = make(tmp_path, head=PrototypeSettings(prototypes=3, hidden=5, outputs=2)).eval()
    monitors = LinearMonitors(network)
    save_model(tmp_path, network, card_for("semisup", INFO, {}, parent=None, classes=("a", "b", "c")), monitors)
    return network, monitors, tmp_path


def test_monitors_come_back_with_their_network_which_is_the_same_without_them(watched):
    network, monitors, folder = watched
    assert json.loads((folder / "model.json").read_text())["network"]["monitors"] == [
        "backbone",
        "projection_1",
        "projection_2",
    ]
    loaded, found, card = load_with_monitors(folder)
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(found.logits(loaded.eval(), images), monitors.logits(network, images))
    assert torch.equal(load_model(folder)[0].eval()(images), network(images))
    save_model(folder / "again", loaded, card, found)
    for name in ("model.safetensors", "model.json"):
        assert (folder / name).read_bytes() == (folder / "again" / name).read_bytes()
    save_model(folder / "without", loaded, card)
    assert load_with_monitors(folder / "without")[1] is None
    assert not any(name.startswith("monitors") for name in load_model(folder)[0].state_dict())


def test_a_monitors_logits_are_of_its_own_layer(watched):
    network, monitors, _ = watched
    images = torch.rand(4, 3, 16, 16)
    features = network.features(images)
    hidden = network.head.projection[2](network.head.projection[1](network.head.projection[0](features)))
    layers = {"backbone": features, "projection_1": hidden, "projection_2": network.head.projection[3](hidden)}
    logits = monitors.logits(network, images)
    for place, (name, output) in enumerate(layers.items()):
        layer = monitors.layers[name]
        for image in range(4):
            expected = layer.weight @ output[image] + layer.bias
            torch.testing.assert_close(logits[place, image], expected, rtol=1e-4, atol=1e-5)


def test_their_probabilities_come_one_layer_at_a_time_from_one_pass(watched, monkeypatch):
    network, monitors, _ = watched
    monkeypatch.setattr(evaluation, "BATCH", 7)
    images = np.random.default_rng(0).integers(256, size=(20, 3, 16, 16), dtype=np.uint8)
    passes = []
    network.backbone.register_forward_hook(lambda module, given, output: passes.append(len(output)))
    found = list(evaluation.monitor_probabilities(network, monitors, Images(images, torch.device("cpu"))))
    assert sum(passes) == 20
    assert [name for name, _ in found] == list(monitors.names)
    expected = monitors.logits(network, torch.from_numpy(images).float() / 255).softmax(dim=2)
    for (_, probability), logits in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(probability), logits, rtol=1e-4, atol=1e-5)


def test_a_card_of_before_monitors_still_loads(folder):
    change_card(folder, lambda card: card["network"].pop("monitors"))
    assert load_with_monitors(folder)[1] is None


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            lambda weights: weights.pop("monitors.layers.projection_1.bias"),
            "missing: monitors.layers.projection_1.bias",
        ),
        (
            lambda weights: weights.update({"monitors.layers.other.bias": torch.ones(3)}),
            "unexpected: monitors.layers.oth",
        ),
        (
            lambda weights: weights.update({"monitors.layers.backbone.bias": torch.ones(4)}),
            "float32 [4] found, expected",
        ),
        (lambda weights: weights["monitors.layers.backbone.bias"].fill_(torch.nan), "values that are not finite"),
    ],
)
def test_wrong_weights_of_monitors_are_refused(watched, change, part):
    change_weights(watched[2], change)
    refused(watched[2], "model.safetensors", part)


def test_monitors_of_other_layers_are_refused(watched):
    change_card(watched[2], lambda card: card["network"].update(monitors=["backbone", "projection_1"]))
    refused(watched[2], "network.monitors: ['backbone', 'projection_1'] found, expected ['backbone', 'projection_1', '")


def test_monitors_of_a_network_without_projection_are_refused(folder):
    change_card(folder, lambda card: card["network"].update(monitors=["backbone"]))
    refused(folder, "network.monitors: ['backbone'] found, expected []")
