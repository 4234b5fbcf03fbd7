"""Backbones against torchvision, published parameter counts, and what every network keeps to."""

from typing import get_args, get_type_hints

import pytest
import torch
import torchvision
from torch import nn

from sslpipe.io.errors import UserError
from sslpipe.nets.network import BACKBONES, BackboneSettings
from sslpipe.nets.wide_resnet import WideResNet

SMALL = ["tiny_resnet", "small_resnet", "resnet18", "wrn_28_2", "wrn_37_2"]
DIMENSIONS = {
    "tiny_resnet": 64,
    "small_resnet": 256,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "wrn_28_2": 128,
    "wrn_28_8": 512,
    "wrn_37_2": 256,
    "vit_small_16": 384,
    "vit_tiny_4": 192,
    "vit_mini_4": 96,
}


def build(name, channels=3, **settings):
    torch.manual_seed(0)
    return BackboneSettings(name=name, **settings).build(channels)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def count(module, kind):
    return sum(isinstance(layer, kind) for layer in module.modules())


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnet_is_torchvisions_on_equal_weights(name):
    ours = build(name, stem="imagenet").eval()
    theirs = getattr(torchvision.models, name)()
    theirs.fc = nn.Identity()
    for layer in theirs.modules():  # statistics and scales other than 0 and 1, so that each is seen to be used
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    assert parameters(ours) == parameters(theirs)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images))


# 1.47 million: MixMatch and FixMatch papers, with 10 classes; 23.40 million with 100 (kekmodel/FixMatch-pytorch); 5.93
# million with 10 for the STL-10 variant (maple-research-lab/EnAET, issue 4).
@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [("wrn_28_2", 10, 1_467_610), ("wrn_28_8", 100, 23_401_012), ("wrn_37_2", 10, 5_929_434)],
)
def test_wide_resnet_has_the_published_number_of_parameters(name, classes, expected):
    backbone = build(name)
    assert parameters(backbone) + parameters(nn.Linear(backbone.dimension, classes)) == expected


@pytest.mark.parametrize(("name", "depth"), [("wrn_28_2", 28), ("wrn_28_8", 28), ("wrn_37_2", 37)])
def test_wide_resnets_depth_counts_its_convolutions(name, depth):
    assert count(build(name), nn.Conv2d) == depth


def literal_wide_resnet(state, x, groups):
    """The network of FixMatch, as functions of the weights in order."""
    weights = iter(state.values())

    def conv(x, stride):
        weight = next(weights)
        return nn.functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def activate(x):
        scale, shift, mean, var, _ = (next(weights).double() for _ in range(5))
        x = (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + 1e-5).sqrt() * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
        return torch.where(x > 0, x, 0.1 * x)

    x = conv(x, 1)
    for group in range(groups):
        for place in range(4):
            stride = 2 if group > 0 and place == 0 else 1
            y = activate(x)
            if group == 0 and place == 0:
                x = y
            y = conv(y, stride)
            y = conv(activate(y), 1)
            x = y + (conv(x, stride) if place == 0 else x)
    return activate(x).mean(dim=(2, 3))


@pytest.mark.parametrize("groups", [3, 4])
def test_wide_resnet_is_the_literal_one(groups):
    torch.manual_seed(0)
    network = WideResNet(groups=groups, widen=2, channels=3).double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    images = torch.randn(2, 3, 16, 16, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(network(images), literal_wide_resnet(network.state_dict(), images, groups))


def test_tiny_resnet_has_three_groups_of_one_basic_block():
    tiny = build("tiny_resnet", channels=1)
    stem = 9 * 16 + 2 * 16
    blocks = [9 * (a * b + b * b) + 4 * b + (a * b + 2 * b if a != b else 0) for a, b in [(16, 16), (16, 32), (32, 64)]]
    assert parameters(tiny) == stem + sum(blocks)


def test_small_resnet_has_four_groups_of_one_basic_block_that_halve_the_image():
    small = build("small_resnet")
    sides = []
    for block in small.blocks:
        block.register_forward_hook(lambda _, __, output: sides.append(tuple(output.shape[1:])))
    small(torch.rand(2, 3, 32, 32))
    assert sides == [(32, 16, 16), (64, 8, 8), (128, 4, 4), (256, 2, 2)]
    stem = 3 * 9 * 32 + 2 * 32
    blocks = [9 * (a * b + b * b) + 4 * b + a * b + 2 * b for a, b in [(32, 32), (32, 64), (64, 128), (128, 256)]]
    assert parameters(small) == stem + sum(blocks) == 1_227_488


def test_every_weight_of_small_resnet_has_a_gradient():
    small = build("small_resnet", channels=1)
    small(torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in small.parameters())


@pytest.mark.parametrize("name", DIMENSIONS)
def test_features_have_the_announced_dimension(name):
    backbone = build(name).eval()
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 16, 16)).shape == (1, backbone.dimension) == (1, DIMENSIONS[name])


def test_every_name_of_the_settings_has_a_builder():
    names = set(get_args(get_type_hints(BackboneSettings)["name"]))
    assert names == set(BACKBONES) == {*DIMENSIONS, "timm", "pixels"}  # timm: test_published.py, pixels: test_pixels.py


@pytest.mark.parametrize("size", [8, 15, 16, 28, 32, 96])
@pytest.mark.parametrize(
    ("name", "stem"),
    [*((name, "cifar") for name in SMALL), ("resnet18", "stl"), ("resnet18", "imagenet")],
)
def test_every_image_size_gives_features(name, stem, size):
    backbone = build(name, channels=1, stem=stem)
    assert backbone(torch.rand(2, 1, size, size)).shape == (2, DIMENSIONS[name])


@pytest.mark.parametrize(("stem", "side"), [("cifar", 32), ("stl", 16), ("imagenet", 8)])
def test_stem_keeps_halves_or_quarters_the_image(stem, side):
    backbone = build("resnet18", stem=stem)
    assert backbone.stem(torch.rand(1, 3, 32, 32)).shape == (1, 64, side, side)


@pytest.mark.parametrize("name", [*SMALL, "vit_mini_4"])
def test_channels_last_gives_the_same_features_and_gradients(name):
    # In float64: in float32 the order of sums alone moves a deep network's gradients by a percent.
    plain, last = build(name).double(), build(name).double().to(memory_format=torch.channels_last)
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for backbone, batch in ((plain, images), (last, images.to(memory_format=torch.channels_last))):
        backbone(batch).square().sum().backward()
    gradients = [[p.grad for p in backbone.parameters()] for backbone in (plain, last)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8 * one.abs().max().item())


@pytest.mark.parametrize("name", [*SMALL, "vit_mini_4"])
def test_start_values_are_a_function_of_the_global_seed_alone(name):
    one, other = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_convolutions_start_with_he_variance_over_the_outputs():
    for layer in build("wrn_28_8").modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 50_000:
            expected = (2 / (layer.out_channels * layer.kernel_size[0] ** 2)) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.02)
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()


@pytest.mark.parametrize("name", SMALL)
def test_batch_norm_momentum_reaches_every_batch_norm(name):
    layers = [m for m in build(name, batch_norm_momentum=0.001).modules() if isinstance(m, nn.BatchNorm2d)]
    assert layers
    assert all(layer.momentum == 0.001 for layer in layers)


@pytest.mark.parametrize("name", ["tiny_resnet", "small_resnet", "wrn_28_2", "vit_mini_4"])
def test_a_stem_that_would_have_no_effect_is_refused(name):
    with pytest.raises(UserError, match=rf"network.stem: 'stl' found, expected 'cifar', the only one of {name}"):
        build(name, stem="stl")


@pytest.mark.parametrize("name", ["tiny_resnet", "small_resnet", "resnet18", "wrn_28_2"])
def test_stochastic_depth_where_there_is_none_is_refused(name):
    with pytest.raises(UserError, match=rf"network.drop_path: 0.1 found, expected 0, since {name} has none"):
        build(name, drop_path=0.1)


def convolutions(backbone):
    return [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("name", SMALL)
def test_torchs_own_start_values_are_uniform_within_the_root_of_the_inputs(name):
    for layer in convolutions(build(name, convolution_init="torch")):
        bound = (layer.in_channels * layer.kernel_size[0] ** 2) ** -0.5
        assert layer.weight.abs().max() <= bound
        if layer.weight.numel() > 1000:
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_hes_start_values_of_a_resnet18_are_twice_as_large():
    norm = {
        init: sum(layer.weight.norm() for layer in convolutions(build("resnet18", convolution_init=init)))
        for init in ("he", "torch")
    }
    assert (norm["he"] / norm["torch"]).item() == pytest.approx(2.1, abs=0.1)


@pytest.mark.parametrize(("name", "settings"), [("vit_mini_4", {}), ("timm", {"architecture": "resnet18"})])
def test_start_values_of_convolutions_where_there_are_others_are_refused(name, settings):
    with pytest.raises(UserError, match=f"network.convolution_init: 'torch' found, expected none, since {name} has"):
        build(name, convolution_init="torch", **settings)
