"""Low-rank updates against plain loops over numbers."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sslpipe.nets.lora import LowRankUpdate, add_updates, merged, plain_name, updatable
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.tuning import TuningSettings, tune

SIDES = {"test_vit.r160_in1k": 160, "tf_efficientnet_lite0": 32, "test_vit.r160_in1k+test_resnet.r160_in1k": 160}


def network_of(name):
    """A network with random weights, in eval mode, and images for it."""
    torch.manual_seed(0)
    timm = name in SIDES
    backbone = BackboneSettings(
        name="timm" if timm else name, architecture=name if timm else None, unit_features="+" in name
    )
    network = Network(backbone, mean=[0.4] * 3, std=[0.3] * 3, size=SIDES.get(name, 32)).eval()
    return network, torch.rand(2, 3, *2 * [SIDES.get(name, 32)])


def move(module):
    """Give all updates another B, as training does."""
    for layer in module.modules():
        if isinstance(layer, LowRankUpdate):
            nn.init.normal_(layer.b, std=0.05)


@settings(max_examples=30)
@given(
    outputs=st.integers(1, 5),
    inputs=st.integers(1, 5),
    rank=st.integers(1, 7),
    alpha=st.floats(0.1, 20),
    pointwise=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_weight_and_its_gradients_are_those_of_plain_loops(outputs, inputs, rank, alpha, pointwise, seed):
    torch.manual_seed(seed)
    shape = (outputs, inputs, 1, 1) if pointwise else (outputs, inputs)
    weight = torch.randn(shape, dtype=torch.float64)
    update = LowRankUpdate(weight, rank=rank, alpha=alpha)
    assert torch.equal(update(weight), weight)
    nn.init.normal_(update.b)
    used = min(rank, outputs, inputs)
    assert (update.a.shape, update.b.shape) == ((used, inputs), (outputs, used))
    gradient = torch.randn(shape, dtype=torch.float64)
    found = update(weight)
    found.backward(gradient)
    for i in range(outputs):
        for j in range(inputs):
            total = sum(update.b[i, k] * update.a[k, j] for k in range(used))
            torch.testing.assert_close(found[i, j].sum(), weight[i, j].sum() + alpha / rank * total)
    for k in range(used):
        for j in range(inputs):
            total = sum(update.b[i, k] * gradient[i, j].sum() for i in range(outputs))
            torch.testing.assert_close(update.a.grad[k, j], (alpha / rank * total).detach())
        for i in range(outputs):
            total = sum(update.a[k, j] * gradient[i, j].sum() for j in range(inputs))
            torch.testing.assert_close(update.b.grad[i, k], (alpha / rank * total).detach())


def test_autocast_does_not_round_the_product_which_is_merged_in_float32():
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64))
    add_updates(layer, rank=8, alpha=8.0)
    torch.nn.init.normal_(layer[0].parametrizations.weight[0].b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer[0].weight
    torch.testing.assert_close(found, merged(layer)[0].weight, rtol=0, atol=0)


def test_layers_with_a_matrix_are_updated_and_no_others():
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=2), nn.BatchNorm2d(4), nn.Linear(4, 2)
    )
    assert updatable(layers) == [layers[0], layers[4]]
    assert add_updates(layers, rank=2, alpha=2.0) == 2
    assert [plain_name(name) for name, _ in layers.named_parameters() if name.startswith("0.")] == [
        *["0.bias"],
        *3 * ["0.weight"],
    ]


@pytest.mark.parametrize("name", ["vit_mini_4", "tiny_resnet", *SIDES])
@torch.no_grad()
def test_the_first_forward_is_that_of_the_start_and_merged_weights_compute_the_same(name):
    network, images = network_of(name)
    before = network(images)
    plain = {key: value.clone() for key, value in network.state_dict().items()}
    assert merged(network) is network
    tune(network, TuningSettings(train="lora", rank=2, alpha=3.0))
    assert torch.equal(network(images), before)
    untouched = merged(network).state_dict()
    assert untouched.keys() == plain.keys()
    assert all(torch.equal(untouched[key], value) for key, value in plain.items())
    move(network)
    after = network(images)
    assert (after - before).abs().max() > 1e-4
    whole = merged(network)
    torch.testing.assert_close(whole(images), after, rtol=1e-5, atol=1e-6)
    # The network itself goes on being trained, and so do copies of it.
    other = copy.deepcopy(network)
    assert torch.equal(network(images), after)
    assert torch.equal(merged(other)(images), whole(images))
    assert torch.equal(other(images), after)
