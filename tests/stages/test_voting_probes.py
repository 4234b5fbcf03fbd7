"""semisup.voting_probes by its commands: stored features, prediction, export, evaluation, and starts from its model."""

import csv
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sslpipe.io.files import sha256
from sslpipe.nets.inference import to_input
from sslpipe.nets.model_file import load_model
from sslpipe.nets.unit_heads import ConsensusHead
from sslpipe.tools.export import check_images
from stages.finetune import finetune
from stages.semisup import semisup

OUT = Path("runs/semisup/voting_probes")


def test_it_reads_stored_features_and_not_the_images(project, monkeypatch, read_csv, capsys):
    before = sha256(OUT / "model.safetensors")

    def no_pass(*_, **__):
        raise AssertionError("a pass over the images")

    monkeypatch.setattr("sslpipe.running.checks.infer", no_pass)
    monkeypatch.setattr("sslpipe.nets.network.Network.features", no_pass)
    semisup("voting_probes")
    assert sha256(OUT / "model.safetensors") == before
    network, card = load_model(OUT)
    assert "runs/features/card.json" in {Path(path).as_posix() for path in card.inputs}
    assert (type(network.head), network.head.settings.heads) == (ConsensusHead, 1)  # of the only feature space
    (row,) = read_csv(OUT / "history.csv")
    assert row["labels"] == "40"
    assert 0 < float(row["unanimous"]) <= 1
    assert float(row["monitor/held_out_acc"]) > 0.35
    out = capsys.readouterr().out
    assert "semisup.voting_probes: 3 probes vote (feature spaces × strengths: 1 × 3), all agree on " in out
    backbone, found = load_file("runs/pretrain/model.safetensors"), load_file(OUT / "model.safetensors")
    assert all(found[name].equal(value) for name, value in backbone.items() if name.startswith("backbone."))


def test_the_first_probes_alone_are_a_setting(project):
    semisup("voting_probes", assignments=["self_training=false", "strengths=[1, 10]"])
    assert load_model(OUT)[0].head.settings.heads == 2


def test_it_is_scored_as_a_classifier_on_test_images_and_shown(finished, read_csv):
    rows = read_csv(finished / "runs/evaluate/table.csv")
    assert float(next(row for row in rows if row["model"] == "semisup.voting_probes")["acc"]) > 0.35
    shown = (path.read_text() for path in (finished / "runs/report").rglob("*") if path.suffix in (".html", ".js"))
    assert any("semisup.voting_probes" in text for text in shown)


@pytest.mark.parametrize("chosen", [[], ["self_training=false"]], ids=["students", "voters"])
def test_predict_and_both_exports_give_the_models_classes(project, at_once, chosen):
    semisup("voting_probes", assignments=chosen)
    network = load_model(OUT)[0].eval()
    images = check_images(6, 1, 8)
    with torch.no_grad():
        expected = network(to_input(images)).softmax(dim=1)
    assert expected.std(dim=1).min() > 0.01  # not the same for all classes
    for form in ("onnx", "torch"):
        code, _, err = at_once("export", OUT, "--format", form)
        assert (code, err) == (0, "")
    folder = Path("exported/semisup-voting_probes")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, atol=1e-5)
    program = torch.export.load(folder / "model.pt2").module()
    torch.testing.assert_close(program(images), expected, rtol=0, atol=1e-5)
    Path("new").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(f"new/{number}.png")
    code, _, err = at_once("predict", OUT, "new", "--out", "predictions.csv", "--workers", "1")
    assert (code, err) == (0, "")
    with open("predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction"] for row in rows] == [str(each) for each in expected.argmax(dim=1).tolist()]


def test_other_methods_start_from_its_model(project):
    for method in ("propagation", "voting_probes"):
        semisup(method, start="semisup/voting_probes", out=Path("elsewhere", method))
        assert load_model(Path("elsewhere", method))[1].settings["start"] == "semisup/voting_probes"
    finetune("linear", start="semisup/voting_probes", out=Path("elsewhere/linear"))
    semisup("supervised", start="semisup/voting_probes", epochs=1, out=Path("elsewhere/supervised"))
    assert isinstance(load_model(Path("elsewhere/supervised"))[0].head, ConsensusHead)  # trained further


def test_it_needs_stored_features(project, refused):
    shutil.rmtree("runs/features")
    line = refused("semisup", "--method", "voting_probes")
    assert "runs/features/card.json: no such file; run 'sslpipe features'" in line
