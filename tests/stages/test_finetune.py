import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sslpipe.data.store import Store
from sslpipe.io.files import sha256
from sslpipe.nets.model_file import load_model
from sslpipe.reporting.summary import labelled_text
from sslpipe.running import few_labels
from stages.evaluate import evaluate
from stages.finetune import finetune

ROOT = Path(__file__).parents[2]
METHODS = sorted(path.stem for path in (ROOT / "sslpipe/methods/finetune").glob("[a-z]*.py"))
OUT = Path("runs/finetune")
LABELLED = Path("runs/prepare/labelled")


@pytest.mark.parametrize("method", METHODS)
def test_writes_a_classifier_and_says_what_it_is_made_of(finished, tiny, method):
    folder = finished / OUT / method
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "model.json", "history.csv"}
    _, card = load_model(folder)
    entry = tiny["finetune"]["methods"][method]
    said = {key: card.settings[key] for key in ("method", "start", "labels")}
    assert said == {"method": method, "start": entry["start"], "labels": 40}
    assert card.parent == sha256(finished / "runs" / entry["start"] / "model.safetensors")
    assert (card.stage, len(card.classes)) == ("finetune", 10)


def test_linear_leaves_the_backbone_as_it_was_and_says_its_penalty(finished, read_csv):
    before, after = load_model(finished / "runs/pretrain")[0], load_model(finished / OUT / "linear")[0]
    for name, value in before.backbone.state_dict().items():
        assert value.equal(after.backbone.state_dict()[name]), name
    assert after.head.out_features == 10
    rows = read_csv(finished / OUT / "linear/history.csv")
    assert [row["labels"] for row in rows] == ["40"]
    assert 1e-5 <= float(rows[0]["penalty"]) <= 1


def test_semisupervised_takes_over_the_projection_and_no_prototypes(project):
    finetune(
        "semisupervised", epochs=1, assignments=["fit.optimizer.lr=1.0e-12", "ema_decay=null", "momentum_encoder=no"]
    )
    start, tuned = (load_model(folder)[0].head for folder in (Path("runs/semisup/suave"), OUT / "semisupervised"))
    for name, value in start.projection.named_parameters():
        assert value.allclose(dict(tuned.projection.named_parameters())[name], atol=1e-6), name
    assert not start.prototypes.weight.allclose(tuned.prototypes.weight, atol=1e-3)


@pytest.mark.parametrize("start", ["self-label", "semisup/simmatch", "prepare"])
@pytest.mark.parametrize("method", ["linear", "supervised"])
def test_goes_on_from_whatever_there_is(project, method, start):
    finetune(method, start=start)
    assert load_model(OUT / method)[0].head.out_features == 10


def test_one_label_a_class_is_enough_for_linear(project, capsys):
    label = np.load(LABELLED / "label.npy")
    first = np.sort(np.unique(label, return_index=True)[1])
    for name in ("index", "label"):
        np.save(LABELLED / f"{name}.npy", np.load(LABELLED / f"{name}.npy")[first])
    finetune("linear")
    assert "linear: a class has only one label; penalty 0.001" in capsys.readouterr().out
    assert load_model(OUT / "linear")[1].settings["labels"] == 10


def test_linear_reads_stored_features_and_not_the_images(project, monkeypatch, capsys):
    before = sha256(OUT / "linear/model.safetensors")

    def no_pass(*_, **__):
        raise AssertionError("a pass over the images")

    monkeypatch.setattr("sslpipe.running.checks.infer", no_pass)
    monkeypatch.setattr("sslpipe.nets.network.Network.features", no_pass)
    monkeypatch.setattr(few_labels, "COSTLY_PIXELS", 1)
    finetune("linear")
    assert sha256(OUT / "linear/model.safetensors") == before
    assert "runs/features/card.json" in load_model(OUT / "linear")[1].inputs
    finetune("linear", start="semisup/propagation", out=Path("elsewhere"))  # whose backbone is the same
    assert "no features of" not in capsys.readouterr().out
    before, after = (load_model(folder)[0].head for folder in (OUT / "linear", Path("elsewhere")))
    torch.testing.assert_close(after.weight, before.weight, rtol=0, atol=0)


def test_linear_on_stored_features_differs_by_their_rounding_alone(project):
    stored = load_model(OUT / "linear")
    shutil.rmtree("runs/features")
    finetune("linear")
    passed = load_model(OUT / "linear")
    assert passed[1].settings["labels"] == stored[1].settings["labels"]
    assert "runs/features/card.json" not in passed[1].inputs
    images = torch.from_numpy(np.load("runs/prepare/test/images.npy")).float() / 255
    with torch.no_grad():
        first, second = (network.eval()(images).softmax(dim=1) for network, _ in (stored, passed))
    torch.testing.assert_close(first, second, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("start", "costs", "expected"),
    [
        (
            "semisup/fixmatch",
            True,
            "finetune.linear: no features of runs/semisup/fixmatch found in runs/features, so the",
        ),
        (
            "prepare",
            True,
            "finetune.linear: no features of a new network found in runs/features, so the network computes",
        ),
        ("semisup/fixmatch", False, "finetune.linear: penalty"),
    ],
)
def test_linear_passes_the_images_where_no_features_are_stored(project, monkeypatch, capsys, start, costs, expected):
    monkeypatch.setattr(few_labels, "COSTLY_PIXELS", 1213 * 64 + (not costs))
    finetune("linear", start=start)
    out = " ".join(capsys.readouterr().out.split())
    assert ("no features of" in out) == costs
    assert expected in out
    assert "stores them" not in out  # the stage features stores those of pretrain alone
    assert "runs/features/card.json" not in load_model(OUT / "linear")[1].inputs


def test_features_of_other_images_are_not_taken(project, monkeypatch, capsys):
    path = Path("runs/features/card.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "data": "0" * 64}))
    monkeypatch.setattr(few_labels, "COSTLY_PIXELS", 1)
    finetune("linear")
    assert "'sslpipe features' stores them" in " ".join(capsys.readouterr().out.split())
    assert "runs/features/card.json" not in load_model(OUT / "linear")[1].inputs


def test_features_that_cannot_be_read_are_one_line(project, refused):
    np.save("runs/features/train/features.npy", np.zeros((7, 3), np.float16))
    assert "features.npy: float16 [7, 3] found, expected float16 [1213, " in refused("finetune", "--method", "linear")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "liner"], "--method: unknown name 'liner'; did you mean 'linear'"),
        (["--method", "linear", "--set", "penalty=1"], "finetune.linear.penalty: unknown key"),
        (["--method", "linear", "--set", "penalties=[0.0]"], "finetune.linear.penalties"),
        (["--method", "linear", "--epochs", "3"], "finetune.linear.fit: {'epochs': 3} found, expected null"),
        (["--method", "linear", "--start", "nowhere"], "runs/nowhere/model."),
        (
            ["--method", "supervised", "--batch", "100000"],
            "finetune.supervised.fit.batch: 100000 is more than the 1213",
        ),
        (["--method", "semisupervised", "--start", "pretrain"], "projection_init: pretrained is set"),
        (["--method", "semisupervised", "--set", "network.name=resnet18"], "network.name: tiny_resnet found"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line_and_cost_nothing(project, refused, arguments, message):
    before = {path: sha256(path) for path in OUT.rglob("model.*")}
    assert message in refused("finetune", *arguments)
    assert {path: sha256(path) for path in OUT.rglob("model.*")} == before
    assert not list(Path("runs").rglob(".*"))


def test_labels_with_a_gap_are_one_line(project, refused):
    label = np.load(LABELLED / "label.npy")
    for name in ("index", "label"):
        np.save(LABELLED / f"{name}.npy", np.load(LABELLED / f"{name}.npy")[label > 0])
    assert "runs/prepare/labelled: class '0' has no labelled image" in refused("finetune", "--method", "linear")


def test_chosen_labels_are_said_to_be_in_the_card_and_in_the_table(project, capsys):
    (LABELLED / "chosen.json").write_text('{"chosen": 40, "labelled": 40}')
    finetune("linear")
    assert load_model(OUT / "linear")[1].settings["labels_chosen"] is True
    (OUT / "semisupervised/model.json").unlink()
    evaluate()
    assert "40 labels chosen, not drawn\n" in capsys.readouterr().out
    assert labelled_text(Store(Path("runs/prepare"))) == "40 labels (4 a class), chosen, not drawn"
