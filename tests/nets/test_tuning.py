"""Which weights are trained, at which rates, and what the others cost."""

import re
from contextlib import contextmanager

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.nets.averaged import AveragedWeights
from sslpipe.nets.joined import timm_backbone
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.timm_backbone import TimmBackbone
from sslpipe.nets.tuning import TuningSettings, learning_rates, tune
from sslpipe.nets.vit import VisionTransformer

TWO_TIMM = "test_vit.r160_in1k+tf_efficientnet_lite0"


def network_of(name):
    torch.manual_seed(0)
    own = name in ("tiny_resnet", "vit_mini_4", "wrn_28_2")
    backbone = BackboneSettings(
        name=name if own else "timm", architecture=None if own else name, unit_features="+" in name
    )
    return Network(backbone, mean=[0.4] * 3, std=[0.3] * 3, size=32)


def test_rates_of_a_vision_transformer_of_two_blocks_by_hand():
    backbone = VisionTransformer(patch=4, width=8, depth=2, heads=2, drop_path=0.0, channels=3)
    rates = learning_rates(backbone, TuningSettings(layer_decay=0.5))
    layers = [
        "attention.0",
        "attention.1.queries_keys_values",
        "attention.1.output",
        *map("perceptron.{}".format, (0, 1, 3)),
    ]
    block = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert rates == {
        **dict.fromkeys(["token", "patches.weight", "patches.bias"], 0.125),
        **{f"blocks.0.{name}": 0.25 for name in block},
        **{f"blocks.1.{name}": 0.5 for name in block},
        **dict.fromkeys(["norm.weight", "norm.bias"], 0.5),
    }


@pytest.mark.parametrize(
    ("name", "first", "last", "blocks"),
    [("tiny_resnet", "stem.0.weight", "blocks.2", 3), ("wrn_28_2", "layers.0.weight", "layers.13.norm.bias", 12)],
)
def test_own_networks_count_from_the_last_block(name, first, last, blocks):
    backbone = network_of(name).backbone
    distances = backbone.distances()
    assert list(distances) == [name for name, _ in backbone.named_parameters()]
    assert backbone.block_count == blocks
    assert distances[first] == blocks + 1
    assert {distance for key, distance in distances.items() if key.startswith(last)} == {1}
    assert sorted(set(distances.values())) == list(range(1, blocks + 2))


@pytest.mark.parametrize(
    "architecture", ["vit_tiny_patch16_224", "efficientnet_lite0", "test_resnet", "test_convnext", "test_vit"]
)
def test_rates_are_those_of_timms_own_function(architecture):
    whole = timm.create_model(architecture, num_classes=5)
    names = {weight: name for name, weight in whole.named_parameters()}
    groups = param_groups_layer_decay(whole, layer_decay=0.7)
    expected = {names[weight]: group["lr_scale"] for group in groups for weight in group["params"]}
    backbone = TimmBackbone(architecture=architecture, channels=3)
    rates = learning_rates(backbone, TuningSettings(layer_decay=0.7))
    assert set(rates) == {f"model.{name}" for name, _ in backbone.model.named_parameters()}
    assert len(set(rates.values())) > 3
    for name, rate in rates.items():
        assert rate == pytest.approx(expected[name.removeprefix("model.")]), name
    assert all(expected[name] == 1 for name in expected if f"model.{name}" not in rates)


def test_joined_networks_count_each_by_their_own_depth():
    joined = timm_backbone(architecture=TWO_TIMM, channels=3, unit_features=True)
    distances = joined.distances()
    assert joined.block_count == min(network.block_count for network in joined.networks) == 6
    for i, network in enumerate(joined.networks):
        own = {f"networks.{i}.{name}": distance for name, distance in network.distances().items()}
        assert own.items() <= distances.items()
    assert len(distances) == len(list(joined.parameters()))
    assert max(distances.values()) == 17


@contextmanager
def kept():
    """A list that fills with the sizes of the tensors that are kept for the backward pass."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()) or tensor, lambda _: _):
        yield sizes


def cost(name, images, **settings):
    """How many values a forward in train mode keeps."""
    network = network_of(name)
    tune(network, TuningSettings(**settings))
    network.train()
    with kept() as sizes:
        features = network.features(images)
    return sum(sizes), features


@pytest.mark.parametrize(("name", "side"), [("tiny_resnet", 16), ("vit_mini_4", 16), ("tf_efficientnet_lite0", 32)])
def test_nothing_before_the_first_trained_layer_is_kept_for_gradients(name, side):
    images = torch.rand(4, 3, side, side)
    whole, _ = cost(name, images)
    last, features = cost(name, images, train="last_blocks", blocks=1)
    none, alone = cost(name, images, train="none")
    assert features.requires_grad
    assert not alone.requires_grad
    assert none == 0 < last < 0.5 * whole


@pytest.mark.parametrize("name", ["tiny_resnet", "wrn_28_2", "tf_efficientnet_lite0"])
@pytest.mark.parametrize(
    "settings", [{"train": "none"}, {"train": "lora"}, {"train": "last_blocks", "blocks": 2}], ids=lambda s: s["train"]
)
def test_frozen_parts_stay_in_eval_mode_and_keep_weights_and_statistics(name, settings):
    network = network_of(name)
    network.head = nn.Linear(network.backbone.dimension, 2)
    network.train()
    tune(network, TuningSettings(**settings))
    distances = (
        {f"backbone.{key}": distance for key, distance in network.backbone.distances().items()}
        if settings["train"] == "last_blocks"
        else {}
    )
    norms = {key: layer for key, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    trained = {key for key in norms if distances.get(f"{key}.weight", 9) <= settings.get("blocks", 0)}
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for mode in (False, True):
        network.train(mode)
        assert {key for key, layer in norms.items() if layer.training} == (trained if mode else set())
    optimizer = torch.optim.SGD([weight for weight in network.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.rand(4, 3, 16, 16)).square().sum().backward()
        optimizer.step()
    after = network.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(after[key], value)}
    parts = [key for key in moved if key.startswith("backbone.")]
    if settings["train"] == "none":
        assert moved == {"head.weight", "head.bias"}
    elif settings["train"] == "lora":
        assert parts
        assert all(re.search(r"\.parametrizations\.weight\.0\.[ab]$", key) for key in parts)
    else:
        assert {key for key in distances if key in moved} == {key for key in distances if distances[key] <= 2}
        assert {key.rpartition(".")[0] for key in moved if "running" in key} == trained
        assert trained
        assert set(norms) - trained


def test_a_teacher_with_batch_statistics_keeps_those_of_frozen_parts():
    network = network_of("tiny_resnet")
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    tune(network, TuningSettings(train="last_blocks", blocks=1))
    network.train()
    teacher = AveragedWeights(network, own_statistics=True)
    modes = [layer.training for layer in teacher.module.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert modes == [layer.training for layer in norms]
    assert len(set(modes)) == 2
    assert not any(layer.training for layer in teacher.eval().modules())


@pytest.mark.parametrize("settings", [{}, {"train": "last_blocks", "blocks": 1}])
def test_batch_norms_keep_the_statistics_of_the_start_and_learn_their_weights(settings):
    network = network_of("tiny_resnet").train()
    tune(network, TuningSettings(**settings, statistics="start"))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    network.features(torch.rand(4, 3, 16, 16)).square().sum().backward()
    assert not any(layer.training for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    assert network.backbone.blocks[2].training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.backbone.blocks[2].residual[1].weight.grad.abs().sum() > 0
    assert (network.backbone.stem[1].weight.grad is None) == bool(settings)


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ({"train": "last_blocks"}, "blocks: null found, expected a whole number"),
        ({"train": "last_blocks", "blocks": 1, "rank": 8}, "rank: 8 found, expected null with train: last_blocks"),
        ({"rank": 8}, "rank: 8 found, expected null with train: all"),
        ({"train": "lora", "blocks": 1}, "blocks: 1 found, expected null with train: lora"),
        ({"train": "none", "alpha": 2.5}, "alpha: 2.5 found, expected null with train: none"),
        ({"train": "none", "layer_decay": 0.7}, "layer_decay: 0.7 found, expected null with train: none"),
        ({"train": "lora", "statistics": "batch"}, "statistics: batch found, expected null with train: lora"),
        ({"train": "some"}, "unknown value 'some'"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(block, error):
    with pytest.raises(UserError, match=rf"^semisup\.fixmatch\.backbone[:.][^\n]*{re.escape(error)}[^\n]*$"):
        parse(TuningSettings, block, where="semisup.fixmatch.backbone")


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("tiny_resnet", {"train": "last_blocks", "blocks": 4}, "backbone.blocks: 4 found, expected at most 3, "),
        (TWO_TIMM, {"train": "last_blocks", "blocks": 7}, "backbone.blocks: 7 found, expected at most 6, "),
        ("test_vit.r160_in1k", {"train": "last_blocks", "blocks": 7}, "the number of blocks of test_vit.r160_in1k"),
    ],
)
def test_more_blocks_than_there_are_is_one_line(name, settings, error):
    with pytest.raises(UserError, match=re.escape(error)) as raised:
        tune(network_of(name), TuningSettings(**settings))
    assert "\n" not in str(raised.value)


def test_updates_need_a_layer_with_a_matrix():
    network = network_of("tiny_resnet")
    network.backbone.blocks = nn.Sequential()  # the stem alone, a convolution of 3×3
    with pytest.raises(UserError, match=r"^backbone\.train: lora found, but tiny_resnet has neither"):
        tune(network, TuningSettings(train="lora"))


def test_how_many_weights_are_trained_is_said():
    assert tune(network_of("tiny_resnet"), TuningSettings()) == ""
    assert tune(network_of("tiny_resnet"), TuningSettings(train="none")) == (
        "trains 0 of 0.077 million weights, the head alone (backbone.train: none)"
    )
    lite = "tf_efficientnet_lite0"
    assert tune(network_of(lite), TuningSettings()).startswith("trains all 3.4 million weights (backbone.train: all;")
    found = tune(network_of(lite), TuningSettings(train="lora"))
    assert (
        found
        == "trains 0.18 of 3.4 million weights, the head and updates of rank 8 in 32 layers (backbone.train: lora)"
    )
