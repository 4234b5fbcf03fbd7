"""The stage report of the project that all stages have run in."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from small_project import decode

from sslpipe.reporting.encoding import decoded
from stages.report import report

OUT = Path("runs/report")


def test_every_evaluated_model_is_there_with_its_metrics(finished, read_csv):
    metrics = json.loads((finished / "runs/evaluate/metrics.json").read_text())
    models = decode(finished / OUT, "summary")["models"]
    expected = [name for name in metrics if not name.startswith("kmeans") and "/" not in name]
    assert [model["name"] for model in models] == expected
    for model in models:
        part = decode(finished / OUT, model["file"])
        assert model["scores"] == metrics[model["name"]]
        # The predictions for test images are those that evaluate has scored.
        images = decode(finished / OUT, "images")
        test = decoded(images["split"], "u1") == 2
        sizes = np.bincount(decoded(part["group"], "u2")[test], minlength=model["groups"])
        clusters = read_csv(finished / "runs/evaluate" / model["name"] / "clusters.csv")
        assert sizes.tolist() == [int(row["images"]) for row in clusters]
        names = [row["class"] or None for row in clusters]
        assert [group["name"] for group in part["groups"]] == names


def test_the_table_and_the_provenance_are_those_of_the_commands(finished):
    summary = decode(finished / OUT, "summary")
    metrics = json.loads((finished / "runs/evaluate/metrics.json").read_text())
    assert len(summary["table"]["rows"]) == len(metrics)
    assert summary["lineage"][0].startswith("runs/evaluate: files of evaluate")
    assert any(line.strip().startswith("runs/prepare: images of prepare") for line in summary["lineage"])
    assert summary["labelled"] == "40 labels (4 a class)"
    assert (summary["protocol"], summary["seed"], summary["title"]) == ("split", 0, "digits")
    blocks = {row["block"] for row in summary["settings"]}
    assert {"prepare", "pretrain.simclr", "mine_neighbors", "cluster", "semisup.suave", "finetune.linear"} <= blocks


def test_no_file_names_this_machine(finished):
    for path in (finished / OUT).rglob("*"):
        if path.is_file():
            assert str(finished).encode() not in path.read_bytes(), path


def test_again_it_writes_the_same_bytes_and_ends_with_its_address(project, at_once):
    before = {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()}
    code, out, err = at_once("report")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"report: {(project / OUT / 'index.html').as_uri()}"
    assert {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()} == before


def test_one_file_for_a_mail(project, at_once, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    shutil.rmtree(OUT)
    code, _, err = at_once("report", "--single", "groups.html", "--open")
    assert (code, err) == (0, "")
    assert 10_000 < Path("groups.html").stat().st_size < 10_000_000
    assert opened == [(project / "groups.html").as_uri()]
    assert not OUT.exists()


def test_before_evaluate_the_command_to_run_is_named(project, refused):
    shutil.rmtree("runs/evaluate")
    assert "runs/evaluate/card.json: no such file; run 'sslpipe evaluate' or 'dvc repro' first" in refused("report")


@pytest.mark.parametrize(("key", "value"), [("neighbors", 0), ("images", "many"), ("picture", 3)])
def test_settings_are_checked(project, refused, key, value):
    assert f"report.{key}" in refused("report", "--set", f"{key}={value}")


def test_settings_by_option(project):
    report(assignments=["neighbors=3", "map=false", "images=200"])
    assert decode(OUT, "neighbors")["k"] == 3
    assert decode(OUT, "images")["count"] == 200
