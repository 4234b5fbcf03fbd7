"""Weights of another architecture: refused where something says so, named where nothing does, and never in silence."""

import json

import pytest
import safetensors.torch
import timm
import torch

from sslpipe.io.errors import UserError
from sslpipe.nets import architectures
from sslpipe.nets.architectures import meta_model, nearest_architectures, order_of, shapes_of, twins
from sslpipe.nets.network import BackboneSettings
from sslpipe.nets.published import published_network
from sslpipe.nets.weights_files import WeightsFile

LITE, TF_LITE = "efficientnet_lite0", "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(architectures, "SIMILAR_NAMES", 3)


@pytest.fixture(scope="module")
def lite():
    torch.manual_seed(0)
    return timm.create_model(TF_LITE).state_dict()


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return timm.create_model("test_resnet").state_dict()


def load(path, architecture, side=64):
    backbone = BackboneSettings(name="timm", architecture=architecture)
    return published_network(backbone, [WeightsFile(str(path))], channels=3, download=False, side=side)


def refused(path, architecture, *parts):
    with pytest.raises(UserError) as caught:
        load(path, architecture)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


def lines(capsys):
    return " ".join(capsys.readouterr().out.split())


def other_names(weights):
    """Weights in the same order, with another program's names."""
    return {f"_part{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(weights.items())}


def test_twins_are_found_by_names_and_shapes():
    assert TF_LITE in twins(LITE)
    assert LITE in twins(TF_LITE)
    assert twins("vit_tiny_patch16_224") == ("deit_tiny_patch16_224",)
    assert twins("test_resnet") == ()


def test_a_neighbouring_config_says_whose_weights_they_are(tmp_path, lite, capsys):
    safetensors.torch.save_file(lite, tmp_path / "model.safetensors")
    config = {"architecture": TF_LITE, "num_classes": 1000, "pretrained_cfg": {"tag": "in1k", "mean": [0.5] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(tmp_path / "model.safetensors", LITE, "according to config.json beside it", f"architecture: {TF_LITE}.in1k")
    load(tmp_path / "model.safetensors", TF_LITE)
    assert LITE not in lines(capsys)


@pytest.mark.parametrize("kind", ["metadata", "arch"])
def test_a_file_says_whose_weights_it_has(tmp_path, lite, kind):
    if kind == "metadata":
        path = tmp_path / "any.safetensors"
        safetensors.torch.save_file(lite, path, {"architecture": TF_LITE})
    else:
        path = tmp_path / "any.pth"
        torch.save({"arch": TF_LITE, "state_dict": lite}, path)
    refused(
        path, LITE, f"weights of {TF_LITE} found, according to its own metadata", f"network.architecture: {TF_LITE}"
    )
    load(path, TF_LITE)


def test_weights_for_images_normalised_otherwise_are_refused(tmp_path):
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "any.pth")
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": [0.485, 0.456, 0.406]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(tmp_path / "any.pth", "vit_tiny_patch16_224", "images with the mean [0.485, 0.456, 0.406] found")


def test_where_nothing_says_so_a_line_names_twins_that_compute_something_else(tmp_path, lite, capsys):
    torch.save(lite, tmp_path / "any.pth")
    load(tmp_path / "any.pth", LITE)
    line = lines(capsys)
    assert f"the same weights fit timm's {TF_LITE}, which gives other features than {LITE}" in line
    assert f'{{"architecture": "{LITE}"}}' in line


def test_a_twin_that_computes_the_same_is_not_named(tmp_path, monkeypatch, small, capsys):
    monkeypatch.setattr("sslpipe.nets.weights_owner.twins", lambda _: ("test_resnet",))
    torch.save(small, tmp_path / "any.pth")
    load(tmp_path / "any.pth", "test_resnet")
    assert "same weights" not in lines(capsys)


@torch.no_grad()
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("classes", [1000, 7, 0])
def test_other_names_in_the_same_order_are_taken_with_a_line(tmp_path, small, capsys, old, classes):
    weights = {name: tensor for name, tensor in small.items() if not (old and "num_batches" in name)}
    if classes == 7:
        weights |= {name: tensor[:7] for name, tensor in weights.items() if name.startswith("fc.")}
    elif classes == 0:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    torch.save(other_names(weights), tmp_path / "any.pth")
    state = load(tmp_path / "any.pth", "test_resnet").backbone.model.state_dict()
    assert all(torch.equal(tensor, small[name]) for name, tensor in state.items() if "num_batches" not in name)
    line = lines(capsys)
    assert "they are taken in order, since all" in line
    assert "(_part0.weight is conv1.0.weight, ..., " in line


def test_an_order_of_other_shapes_or_kinds_is_not_taken(small):
    shapes = shapes_of(other_names(small))
    assert order_of(shapes, "test_resnet") is not None
    names = list(shapes)
    assert order_of({name: shapes[name] for name in names[:-1]}, "test_resnet") is None
    swapped = [names[1], names[0], *names[2:]]
    assert order_of({name: shapes[name] for name in swapped}, "test_resnet") is None
    renamed = {("_part1.other" if name == names[1] else name): shape for name, shape in shapes.items()}
    assert order_of(renamed, "test_resnet") is None


def test_an_original_files_names_are_translated_by_timm(tmp_path, capsys):
    """DINOv2's own files have a mask token and other names of layers."""
    torch.manual_seed(0)
    name = "vit_small_patch14_dinov2.lvd142m"
    weights = timm.create_model(name).state_dict()
    torch.save({**weights, "mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2_vits14_pretrain.pth")
    state = load(tmp_path / "dinov2_vits14_pretrain.pth", name, 518).backbone.model.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in state.items())
    assert "timm translates them" in lines(capsys)


def test_a_file_of_another_architecture_names_the_nearest(tmp_path, lite, small):
    torch.save(other_names(lite), tmp_path / "efficientnet-lite0-57934424.pth")
    parts = [f"network.architecture: {LITE} or {TF_LITE}", "onto which the tensors map in order?"]
    refused(tmp_path / "efficientnet-lite0-57934424.pth", "resnet18", "weights found, expected the", *parts)
    torch.save(small, tmp_path / "weights.pth")
    part = "did you mean network.architecture: test_resnet, which has the same tensors?"
    refused(tmp_path / "weights.pth", "test_vit", part)


def test_a_damaged_file_of_the_architecture_is_no_other_architecture(tmp_path, small):
    torch.save({name: tensor for name, tensor in small.items() if name != "bn1.bias"}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"missing: bn1.bias$"):
        load(tmp_path / "weights.pth", "test_resnet")


def test_the_search_ends_in_time_and_says_what_fits_nothing(monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(architectures, "SECONDS", 0.0)
    monkeypatch.setattr(architectures, "meta_model", lambda name: built.append(name) or meta_model("test_resnet"))
    assert nearest_architectures({"a.weight": (3, 5, 7)}, ["resnet18"]) == []
    assert set(built) == {"resnet18"}
    monkeypatch.setattr(architectures, "meta_model", meta_model)
    torch.save({"a.weight": torch.zeros(3, 5, 7)}, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", "test_resnet", "none of timm's architectures with similar names has these shapes")
