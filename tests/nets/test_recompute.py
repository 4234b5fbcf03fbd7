"""Recomputed activations: equal losses, gradients, random draws and running statistics, for fewer bytes."""

import copy
import json

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import checkpoint

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets import recompute
from sslpipe.nets.backbone_fingerprint import backbone_fingerprint
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.nets.recompute import set_recompute

SETTINGS = [
    {"name": "resnet18"},
    {"name": "tiny_resnet"},
    {"name": "wrn_28_2"},
    {"name": "vit_tiny_4", "drop_path": 0.1},
    {"name": "timm", "architecture": "test_efficientnet"},
    {"name": "timm", "architecture": "test_vit+test_resnet", "unit_features": True},
]
SIDE = {"timm": 160}


def build(recomputed, **settings):
    torch.manual_seed(0)
    return BackboneSettings(recompute=recomputed, **settings).build(3)


def images(count, side, dtype=torch.float32):
    return torch.rand(count, 3, side, side, dtype=dtype, generator=torch.Generator().manual_seed(1))


def step(backbone, x):
    """Loss, gradients, buffers and the next random number after a forward of two groups of images and a backward."""
    torch.manual_seed(2)
    first, second = backbone(x), backbone(x[:3].flip(0))  # running statistics move twice
    loss = (first.square().mean() + second.square().mean()).sqrt()
    backbone.zero_grad()
    loss.backward()
    gradients = {name: weight.grad for name, weight in backbone.named_parameters()}
    return {"loss": loss.detach(), **gradients, **dict(backbone.named_buffers()), "random": torch.rand(1)}


@pytest.fixture
def counted(monkeypatch):
    """The number of parts that were computed a second time, in a list."""
    parts, own = [], recompute.recomputing

    def counting(part):
        parts.append(part)
        return own(part)

    monkeypatch.setattr(recompute, "recomputing", counting)
    return parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: each.get("architecture", each["name"]))
def test_losses_gradients_and_statistics_are_equal(settings, dtype, one_thread):
    x = images(4, SIDE.get(settings["name"], 16), dtype)
    plain, recomputed = (build(each, **settings).to(dtype) for each in (False, True))
    expected, found = step(plain, x), step(copy.deepcopy(recomputed), x)  # the copy keeps its own statistics
    assert expected.keys() == found.keys()
    assert expected["loss"] > 0
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance * float(value.abs().max()))
    counts = [value for name, value in found.items() if name.endswith("num_batches_tracked")]
    assert all(count == 2 for count in counts)
    start = build(False, **settings).state_dict()
    means = [name for name in start if name.endswith("running_mean")]
    assert all(not torch.equal(found[name].float(), start[name]) for name in means)
    assert bool(means) is (settings["name"] != "vit_tiny_4")


def kept(backbone, x):
    """Bytes that a forward keeps for its backward, beside weights and buffers."""
    held = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone(x)
    own = {each.untyped_storage().data_ptr() for each in (*backbone.parameters(), *backbone.buffers())}
    return sum(storage.nbytes() for key, storage in held.items() if key not in own)


@pytest.mark.parametrize("name", ["vit_small_16", "resnet50", "wrn_28_2"])
def test_less_than_half_of_the_bytes_are_kept(name):
    x = images(4, 64)
    assert 0 < kept(build(True, name=name), x) < kept(build(False, name=name), x) / 2


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_vit"])
def test_a_network_of_timm_keeps_fewer_bytes(architecture, one_thread):
    plain, recomputed = (build(each, name="timm", architecture=architecture) for each in (False, True))
    assert 0 < kept(recomputed, images(4, 160)) < kept(plain, images(4, 160)) / 2


def test_every_part_is_computed_twice_in_training_and_once_else(counted):
    backbone, x = build(True, name="tiny_resnet"), images(2, 8)
    backbone(x).sum().backward()
    assert {id(part) for part in counted} == {id(part) for part in (backbone.stem, *backbone.blocks)}
    assert len(counted) == 4
    with torch.no_grad():
        backbone(x)
    backbone.eval()(x).sum().backward()
    set_recompute(backbone, False)
    backbone.train()(x).sum().backward()
    assert len(counted) == 4


def test_a_network_of_timm_is_recomputed_only_where_it_is_asked_for(monkeypatch, one_thread):
    backbone, x, calls = build(True, name="timm", architecture="test_resnet"), images(2, 32), []
    own = checkpoint.checkpoint
    monkeypatch.setattr(checkpoint, "checkpoint", lambda *given, **named: calls.append(given) or own(*given, **named))
    backbone(x)
    assert calls
    calls.clear()
    set_recompute(backbone, False)
    backbone(x)
    assert not calls


def test_buffers_stay_even_if_the_second_computation_is_stopped_or_has_no_finite_values():
    block = build(False, name="tiny_resnet").blocks[0]
    before = {name: value.clone() for name, value in block.named_buffers()}
    block.register_forward_hook(lambda *_: {}["stopped"])
    with pytest.raises(KeyError), recompute.recomputing(block):
        block(torch.full((2, 16, 4, 4), float("inf")))
    assert all(torch.equal(value, before[name]) for name, value in block.named_buffers())
    assert list(block.state_dict()) == list(build(False, name="tiny_resnet").blocks[0].state_dict())


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"name": "pixels"}, r"since pixels have no activations"),
        ({"name": "timm", "architecture": "vgg11"}, r"since timm's vgg11 cannot recompute its activations"),
    ],
    ids=["pixels", "timm"],
)
def test_a_network_that_cannot_recompute_is_a_users_mistake(settings, found):
    with pytest.raises(UserError, match=rf"^network\.recompute: true found, expected false, {found}$"):
        BackboneSettings(recompute=True, **settings).build(3, side=16)


def test_a_model_and_what_depends_on_it_do_not_know_of_it(tmp_path):
    info = StoreInfo(
        **{"size": 16, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3, "fingerprint": "0" * 64},
        **{"train": 8, "held_out": 2, "test": 2, "protocol": "split"},
    )
    for each in (False, True):
        torch.manual_seed(0)
        network = build_network(BackboneSettings(name="tiny_resnet", recompute=each), info)
        save_model(tmp_path / str(each), network, card_for("pretrain", info, {}, parent=None))
    plain, recomputed = ((tmp_path / str(each) / "model.json").read_text() for each in (False, True))
    assert plain == recomputed
    assert "recompute" not in json.loads(plain)["network"]["backbone"]
    assert backbone_fingerprint(tmp_path / "True") == backbone_fingerprint(tmp_path / "False")
    loaded, _ = load_model(tmp_path / "True")
    assert not loaded.backbone.recompute
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images(2, 16)), network.eval()(images(2, 16)))
    plain, recomputed = (BackboneSettings(name="resnet18", recompute=each) for each in (False, True))
    assert repr(plain) == repr(recomputed)  # the repr is a part of keys of checkpoints and caches
    assert plain == recomputed
