"""Exports for timm, loaded by timm itself without a network, against the models that they come from."""

import json
import math
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.models._hub import save_config_for_hf
from torch import nn

from sslpipe.decoding.decode import decode
from sslpipe.io.errors import UserError
from sslpipe.nets.cosine_heads import CosineSettings
from sslpipe.nets.heads import ClusterSettings, InstanceSettings, PrototypeSettings
from sslpipe.nets.merged import MergedSettings
from sslpipe.nets.model_file import load_model
from sslpipe.nets.preprocessing import InputSettings, seen_of
from sslpipe.nets.propagation_head import PropagationSettings
from sslpipe.nets.unit_heads import CentroidSettings, ConsensusSettings
from sslpipe.tools import export as tool
from sslpipe.tools.export import check_images, export_model
from sslpipe.tools.export_timm import crop_fraction
from sslpipe.tools.lineage import trace

sys.path.insert(0, str(Path(__file__).parent))
from exported_models import CLASSES, LINEAR, make

pytestmark = pytest.mark.usefixtures("one_thread", "no_network")
ENLARGED = InputSettings(resize=36, crop=32, interpolation="bilinear")
MERGED = MergedSettings(groups=(2, 0, 1))
"""Every output is a group of its own."""
SQUARES = {"architecture": "vit_tiny_patch16_224", "input": replace(ENLARGED, resize=32)}
CASES = {
    "resnet18": ("resnet18", LINEAR, {"size": 32, "stem": "imagenet"}),
    "resnet50, grey": ("resnet50", ClusterSettings(clusters=3), {"size": 32, "stem": "imagenet", "channels": 1,
                                                                 "stage": "cluster"}),
    "vit": ("vit_mini_4", LINEAR, {}),
    "vit, centre": ("vit_mini_4", LINEAR, {"size": 20, "side": 12}),
    "timm, resized": ("timm", InstanceSettings(classes=3, hidden=8), {"architecture": "resnet10t", "input": ENLARGED}),
    "timm, another classifier": ("timm", LINEAR, {"architecture": "mobilenetv3_small_050", "size": 32}),
    "timm, grey before three means": ("timm", LINEAR, {"architecture": "resnet10t", "channels": 1, "colours": 3}),
    "timm, another side": ("timm", LINEAR, SQUARES),
    "one head of a consensus": ("vit_mini_4", ConsensusSettings(outputs=3), {"stage": "cluster"}),
    "merged, one output each": ("vit_mini_4", MERGED, {"stage": "cluster"}),
}  # fmt: skip


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*_):
        raise AssertionError("a connection is made")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@torch.no_grad()
def logits_of(folder, images):
    """What timm's model says to the images that the network sees, normalised by hand."""
    network, card = load_model(folder.parent / "model")
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    seen = seen_of(images.float() / 255, network.side, network.input)
    assert list(seen.shape[2:]) == config["input_size"][1:]
    if card.channels < config["input_size"][0]:
        seen = seen.expand(-1, 3, -1, -1)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return model, model(torch.stack([(seen[:, c] - config["mean"][c]) / config["std"][c]
                                     for c in range(seen.shape[1])], dim=1))  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_timm_gives_the_models_logits(tmp_path, case):
    backbone, head, options = CASES[case]
    model = make(tmp_path / "model", backbone, head, **options)
    written = export_model(model, "timm", tmp_path / "out")
    assert written.difference <= 1e-5
    network, card = load_model(model)
    images = check_images(3, card.channels, card.size)
    loaded, found = logits_of(tmp_path / "out", images)
    with torch.no_grad():
        expected = network.eval()(images.float() / 255)
    expected = expected[0] if expected.ndim == 3 else expected
    if not isinstance(head, ConsensusSettings | MergedSettings):  # whose logits are log-probabilities
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.softmax(dim=1), expected.softmax(dim=1), rtol=0, atol=1e-5)
    assert expected.softmax(dim=1).std(dim=1).min() > 1e-4  # not the same for all classes
    names = ["cluster 0", "cluster 1", "cluster 2"] if card.stage == "cluster" else list(CLASSES)
    assert (loaded.num_classes, list(loaded.pretrained_cfg["label_names"])) == (3, names)
    assert isinstance(loaded.get_classifier(), nn.Linear)


@pytest.mark.parametrize("backbone", [("vit_mini_4", {}), ("timm", {"architecture": "resnet10t", "input": ENLARGED})])
def test_a_model_without_classes_has_no_classifier(tmp_path, backbone):
    name, options = backbone
    model = make(tmp_path / "model", name, None, stage="pretrain", **options)
    export_model(model, "timm", tmp_path / "out")
    images = check_images(2, 3, 16)
    loaded, found = logits_of(tmp_path / "out", images)
    network, _ = load_model(model)
    with torch.no_grad():
        torch.testing.assert_close(found, network.eval().features(images.float() / 255), rtol=1e-5, atol=1e-5)
    assert loaded.num_classes == 0
    card = json.loads((tmp_path / "out/model.safetensors.json").read_text())
    assert card["output"]["meaning"] == "features of the backbone, not normalised"
    assert card["output"]["shape"] == ["batch", found.shape[1]]


def test_the_configuration_has_the_form_that_timm_writes(tmp_path):
    """All that timm would write of the loaded model, but for facts of its own weights."""
    model = make(tmp_path / "model", "timm", LINEAR, architecture="resnet10t.c3_in1k", size=40, side=33)
    export_model(model, "timm", tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    save_config_for_hf(loaded, tmp_path / "timms.json", model_config={"label_names": list(CLASSES)})
    timms = json.loads((tmp_path / "timms.json").read_text())
    assert {
        key: config[key] for key in ("architecture", "num_classes", "num_features", "global_pool", "label_names")
    } == {key: timms[key] for key in ("architecture", "num_classes", "num_features", "global_pool", "label_names")}
    own, theirs = config["pretrained_cfg"], timms["pretrained_cfg"]
    assert {key: own[key] for key in theirs.keys() & own.keys()} == {
        key: theirs[key] for key in theirs.keys() & own.keys()
    }
    assert set(own) <= set(theirs)
    assert own["license"] == "unknown"  # not that of timm's own weights
    assert timm.data.resolve_model_data_config(loaded)["input_size"] == (3, 33, 33)


@pytest.mark.parametrize("options", [{}, {"size": 24, "side": 12}, {"channels": 1}])
def test_timms_transform_prepares_an_image_as_the_model_does(tmp_path, options):
    model = make(tmp_path / "model", "vit_mini_4", LINEAR, **options)
    export_model(model, "timm", tmp_path / "out")
    network, card = load_model(model)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3)[: 2 if card.channels == 1 else 3], np.uint8)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded))
    stored = torch.tensor(decode(pixels, size=card.size, channels=card.channels))[None].float() / 255
    expected = (seen_of(stored, network.side, network.input) - network.mean) / network.std
    torch.testing.assert_close(transform(Image.fromarray(pixels))[None], expected, rtol=0, atol=1.01 / 255 / 0.25)
    about = json.loads((tmp_path / "out/model.safetensors.json").read_text())
    assert about["input"]["transform"].startswith("timm's transform for this config.json does the same to a square")


def test_the_card_says_where_timms_transform_differs(tmp_path):
    model = make(tmp_path / "model", "timm", LINEAR, architecture="resnet10t", input=ENLARGED)
    export_model(model, "timm", tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert "resizes an image once, to 36 px (bilinear)" in text
    assert "stored at 16 px (bicubic)" in text


def test_the_cards_example_runs(tmp_path, monkeypatch):
    model = make(tmp_path / "model", "vit_mini_4", LINEAR)
    export_model(model, "timm", tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    monkeypatch.setattr("PIL.Image.open", lambda _: Image.fromarray(pixels))
    scope = {}
    exec("\n".join(json.loads(Path("model.safetensors.json").read_text())["example"]), scope)
    network, _ = load_model(model)
    with torch.no_grad():
        expected = network.eval()(torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255).softmax(dim=1)
    torch.testing.assert_close(scope["probabilities"].detach(), expected, rtol=0, atol=1e-5)


@given(st.integers(1, 2000), st.integers(0, 2000))
def test_the_crop_is_that_of_timm(crop, more):
    assert math.floor(crop / crop_fraction(crop + more, crop)) == crop + more


def refused(model, out, *parts):
    with pytest.raises(UserError) as caught:
        export_model(model, "timm", out)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


JOINED = {"architecture": "resnet10t+mobilenetv3_small_050", "unit_features": True, "size": 32}
VIT, GROUPS = "vit_mini_4", {"stage": "cluster"}
PROTOTYPES = PrototypeSettings(prototypes=3, hidden=8, outputs=8)
PROBE = PropagationSettings(answer="probe", classes=3, images=None, components=None)
REFUSED = {
    "stem": ("resnet18", LINEAR, {"size": 32}, "no network like resnet18 with the stem cifar;"),
    "network": ("tiny_resnet", LINEAR, {}, "no network like tiny_resnet; it has single networks of timm, resnet18"),
    "joined": ("timm", LINEAR, JOINED, "no network like resnet10t+mobilenetv3_small_050 with unit_features"),
    "normalised": (VIT, PROTOTYPES, {}, "(prototypes: it normalises"),
    "unit": (VIT, ConsensusSettings(outputs=3, unit_features=True), GROUPS, "(consensus: it normalises"),
    "mean": (VIT, ConsensusSettings(outputs=3, heads=4), GROUPS, "mean probabilities of 4 layers"),
    "sums": (VIT, MergedSettings(groups=(0, 1, 2, 2)), GROUPS, "(merged: sums of probabilities)"),
    "centroids": (VIT, CentroidSettings(outputs=3, components=5), GROUPS, "(centroids: it normalises"),
    "hidden layer": (VIT, CosineSettings(outputs=3, hidden=8, embedding=5), GROUPS, "(cosines: it has a hidden layer)"),
    "propagation": (VIT, PROBE, {}, "(propagation: it normalises"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_timm_cannot_express_is_one_line(tmp_path, case):
    backbone, head, options, part = REFUSED[case]
    model = make(tmp_path / "model", backbone, head, **options)
    refused(model, tmp_path / "out", "--format: timm found, ", part, "--format onnx and torch take every network")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_logits_are_refused(tmp_path, monkeypatch):
    def changed(*arguments, **options):
        found = timm_model(*arguments, **options)
        with torch.no_grad():
            found.model.head.bias += torch.tensor([0.0, 0, 1e-3])
        return found

    timm_model = tool.timm_model
    monkeypatch.setattr(tool, "timm_model", changed)
    refused(
        make(tmp_path / "model", "vit_mini_4", LINEAR), tmp_path / "out", "differ by ", "at most 1.0e-05; nothing is"
    )
    assert not (tmp_path / "out").exists()


def test_another_normalisation_is_refused(tmp_path, monkeypatch):
    def changed(*arguments, **options):
        found = timm_model(*arguments, **options)
        found.config["pretrained_cfg"]["std"][0] *= 1.01
        return found

    timm_model = tool.timm_model
    monkeypatch.setattr(tool, "timm_model", changed)
    refused(make(tmp_path / "model", "vit_mini_4", LINEAR), tmp_path / "out", "differ by ")


def test_models_of_other_origin_are_not_replaced(tmp_path):
    model = make(tmp_path / "model", "vit_mini_4", LINEAR)
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").touch()
    (out / "README.md").touch()
    refused(model, out, f"--out: {out} contains model.safetensors")
    (out / "model.safetensors").unlink()
    refused(model, out, f"--out: {out / 'README.md'} was edited, or is of another origin")


def test_an_export_is_found_again_and_replaced_but_for_an_edited_card(tmp_path, capfd):
    model, out = make(tmp_path / "model", "vit_mini_4", LINEAR), tmp_path / "out"
    export_model(model, "timm", out)
    assert trace(out).parents[0].path == (tmp_path / "model").as_posix()
    export_model(model, "torch", out)
    text = (out / "README.md").read_text()
    assert "library_name: timm\n" in text
    assert "## Use: timm\n" in text
    assert "## Use: torch\n" in text
    assert capfd.readouterr() == ("", "")
    export_model(make(tmp_path / "second", "vit_mini_4", LINEAR, channels=1), "timm", out)
    assert "## Use: torch\n" not in (out / "README.md").read_text()
    assert "model.pt2: kept, but of another model, so README.md does not describe it" in capfd.readouterr().out
    with (out / "README.md").open("a") as file:
        file.write("Thanks to all.\n")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    refused(model, out, "README.md was edited")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
