"""Methods with few labels that start from a published network, of which they train a part."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import yaml

from sslpipe.io.files import sha256
from sslpipe.nets.model_file import load_model

pytestmark = pytest.mark.usefixtures("one_thread")
ONE, SEVERAL = "test_efficientnet.r160_in1k", "test_vit.r160_in1k+test_resnet.r160_in1k"
OUT = Path("runs/semisup/fixmatch")
TUNED = {
    "lora": {"train": "lora", "rank": 4, "layer_decay": 0.75},
    "last_blocks": {"train": "last_blocks", "blocks": 2},
    "none": {"train": "none"},
    "all": {},
}


def published(architecture, tiny):
    """Settings of a network with random weights in files, at 32 px, for digits of 8 px."""
    files = []
    for name in architecture.split("+"):
        torch.manual_seed(0)
        path = f"{name}.safetensors"
        safetensors.torch.save_file(timm.create_model(name).state_dict(), path)
        files.append(path)
    return {
        **tiny,
        "network": {"name": "timm", "architecture": architecture, "unit_features": "+" in architecture},
        "pretrain": {"method": "frozen", "frozen": {"weights": files, "side": 32}},
    }


@pytest.fixture
def start(project, tiny, at_once, monkeypatch):
    """Run `pretrain` with a published network; then a method of the blocks of the settings given."""
    monkeypatch.setattr("sslpipe.nets.weights_owner.twins", lambda _: ())

    def run(architecture, block, method="fixmatch"):
        params = published(architecture, tiny)
        own = params["semisup"][method]
        params["semisup"] = {
            "methods": {method: {"start": "pretrain"}},
            method: {**own, "backbone": block, "fit": {**own["fit"], "steps": 4, "batch": 40}},
        }
        params["finetune"] = {"methods": {}}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        assert at_once("pretrain")[0] == 0

    return run


def parts():
    """(Start, model): the networks' weights by their names."""
    return [load_model(Path(folder))[0].backbone.state_dict() for folder in ("runs/pretrain", OUT)]


@pytest.mark.parametrize("kind", TUNED)
@pytest.mark.parametrize("architecture", [ONE, SEVERAL], ids=["one", "several"])
def test_the_model_is_one_of_plain_weights(start, at_once, architecture, kind):
    start(architecture, TUNED[kind])
    code, out, err = at_once("semisup", "--method", "fixmatch")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("fixmatch: trains ")]
    assert f"backbone.train: {kind}" in line
    before, after = parts()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if "running" in name}
    assert not statistics & changed
    assert ("batch norms keep the statistics of the start" in line) == (kind in ("all", "last_blocks"))
    if kind == "lora":
        assert changed
        assert all(before[name].ndim >= 2 and name.endswith(".weight") for name in changed)
    elif kind != "none":
        assert changed
    else:
        assert not changed
    card = json.loads((OUT / "model.json").read_text())
    assert card["settings"]["backbone"]["train"] == kind
    assert card["network"]["backbone"]["architecture"] == architecture


def test_batch_norms_follow_the_batches_where_they_are_told_to(start, at_once):
    start(ONE, {"statistics": "batch"})
    code, out, err = at_once("semisup", "--method", "fixmatch")
    assert (code, err) == (0, "")
    assert "keep the statistics" not in out
    before, after = parts()
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert not any(torch.equal(before[name], after[name]) for name in statistics)


def test_what_comes_after_takes_the_model(start, at_once, tmp_path):
    start(ONE, TUNED["lora"], method="simmatch")
    assert at_once("semisup", "--method", "simmatch")[0] == 0
    model = "runs/semisup/simmatch"
    code, _, err = at_once("evaluate")
    assert (code, err) == (0, "")
    assert json.loads(Path("runs/evaluate/metrics.json").read_text())["semisup.simmatch"]["acc"] > 0
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(image).save(tmp_path / "0.png")
    assert at_once("predict", model, tmp_path / "0.png", "--out", "p.csv", "--workers", "1")[0] == 0
    said = Path("p.csv").read_text().splitlines()[1]
    code, _, err = at_once("export", model, "--format", "torch", "--out", "exported")
    assert (code, err) == (0, "")
    exported = torch.export.load("exported/model.pt2").module()(torch.from_numpy(image[None, None].copy()))
    network, _ = load_model(Path(model))
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(image[None, None] / np.float32(255))).softmax(dim=1)
    torch.testing.assert_close(exported, expected, rtol=0, atol=1e-5)
    assert float(said.split(",")[2]) == pytest.approx(expected.max().item(), abs=1e-3)
    # A later stage starts from it, with updates of its own.
    code, _, err = at_once(
        *("finetune", "--method", "supervised", "--start", "semisup/simmatch"),
        *("--set", "backbone.train=lora", "--set", "fit.steps=2"),
    )
    assert (code, err) == (0, "")


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_weights(start, killed_and_resumed):
    start(ONE, TUNED["lora"])
    killed_and_resumed(OUT / "model.safetensors", "semisup", "--method", "fixmatch")


def test_recomputed_activations_change_no_file(start, at_once):
    start("test_vit.r160_in1k", TUNED["lora"])
    found = []
    for recompute in ("false", "true"):
        at_once("semisup", "--method", "fixmatch", "--set", f"network.recompute={recompute}")
        found.append([sha256(OUT / name) for name in ("model.safetensors", "model.json", "history.csv")])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("backbone.rank=2", "semisup.fixmatch.backbone: rank: 2 found, expected null with train: all"),
        ("backbone={train: last_blocks, blocks: 9}", "backbone.blocks: 9 found, expected at most"),
        ("backbone.train=last_block", "semisup.fixmatch.backbone.train: unknown value 'last_block'"),
    ],
)
def test_wrong_settings_are_one_line_that_names_the_key(start, refused, setting, error):
    start(ONE, {})
    assert error in refused("semisup", "--method", "fixmatch", "--set", setting)
