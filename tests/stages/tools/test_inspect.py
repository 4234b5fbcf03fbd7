import json
import shutil
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def inspected(at_once):
    def run(path):
        code, out, err = at_once("inspect", path, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def paths(artifact):
    """Of an artifact and all its parents."""
    return {artifact["path"]}.union(*(paths(parent) for parent in artifact["parents"]))


def test_a_self_label_model_names_every_parent_back_to_the_images(project, inspected, at_once):
    found = inspected("runs/self-label")
    assert (found["kind"], found["stage"]) == ("model", "self-label")
    assert paths(found) == {
        f"runs/{name}" for name in ("self-label", "cluster", "pretrain", "features", "mine-neighbors", "prepare")
    }
    cluster = next(parent for parent in found["parents"] if parent["stage"] == "cluster")
    assert {parent["path"] for parent in cluster["parents"]} == {
        f"runs/{name}" for name in ("pretrain", "features", "mine-neighbors", "prepare")
    }
    images = next(parent for parent in found["parents"] if parent["kind"] == "images")
    assert images["metadata"]["source"]["name"] == "digits"
    assert (images["metadata"]["train"], images["metadata"]["labelled"]) == (1213, 40)
    assert images["data"] == found["data"] == cluster["data"]
    settings = yaml.safe_load(Path("params.yaml").read_text())["self_label"]["confident"]
    assert found["settings"]["method"] == "confident"
    assert found["settings"]["threshold"] == settings["threshold"]
    metrics = json.loads(Path("runs/evaluate/metrics.json").read_text())
    assert found["metrics"]["test images"] == metrics["self_label"]
    assert found["metrics"]["last epoch"]["epoch"] == settings["fit"]["epochs"]

    code, out, _ = at_once("inspect", "runs/self-label/model.json")
    assert code == 0
    assert out.startswith("runs/self-label: model of self-label, sslpipe ")
    for name in ("runs/cluster: model of cluster", "runs/mine-neighbors: files of", "runs/prepare: images of prepare"):
        assert name in out
    assert f"weights: {found['fingerprint'][:16]}" in out


def test_a_classifier_names_what_it_started_from_and_the_labels(project, inspected):
    found = inspected("runs/finetune/semisupervised")
    assert [parent["path"] for parent in found["parents"]] == ["runs/semisup/suave", "runs/prepare"]
    assert found["metadata"]["classes"] == list("0123456789")
    assert "acc" in found["metrics"]["test images"]


def test_the_layers_of_a_model_have_their_own_figures(project, inspected):
    found = inspected("runs/semisup/suave")
    metrics = json.loads(Path("runs/evaluate/metrics.json").read_text())
    layers = ["backbone", "projection_1", "projection_2"]
    assert found["metadata"]["monitors"] == layers
    for layer in layers:
        assert found["metrics"][f"test images, {layer}"] == metrics[f"semisup.suave/{layer}"]
    assert "monitors" not in inspected("runs/semisup/fixmatch")["metadata"]
    assert not any("," in title for title in inspected("runs/semisup/fixmatch")["metrics"])


def test_figures_name_the_models_that_they_are_of(project, inspected):
    found = inspected("runs/evaluate")
    models = {parent["path"] for parent in found["parents"]}
    assert {"runs/cluster", "runs/self-label", "runs/semisup/fixmatch", "runs/finetune/linear"} <= models
    assert "cluster_acc" in found["metrics"]["cluster"]
    assert inspected("runs/mine-neighbors")["metrics"]["train"]


def test_a_parent_that_was_replaced_is_said_to_be_missing(project, inspected, at_once):
    weights = Path("runs/pretrain/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    array = Path("runs/mine-neighbors/train/indices.npy")
    array.write_bytes(array.read_bytes()[:-1] + b"\1")
    shutil.rmtree("runs/evaluate")
    found = inspected("runs/cluster")
    notes = [parent["note"] for parent in found["parents"] if parent["path"] is None]
    assert len(notes) == 2
    assert "no model below runs has these weights" in notes[0]
    assert "indices.npy has changed since" in notes[1]
    assert "test images" not in found["metrics"]
    assert "(not found): model of unknown" in at_once("inspect", "runs/cluster")[1]


def test_a_model_that_learned_nothing_is_not_its_own_parent(project, inspected):
    shutil.copyfile("runs/cluster/model.safetensors", "runs/self-label/model.safetensors")
    found = inspected("runs/self-label")
    assert [parent["path"] for parent in found["parents"] if parent["kind"] == "model"] == ["runs/cluster"]
    assert "runs/pretrain" in paths(found)


def test_an_export_names_its_model(project, inspected, at_once):
    assert at_once("export", "runs/self-label", "--format", "torch")[0] == 0
    found = inspected("exported/self-label")
    assert (found["kind"], found["metadata"]["names"][:2]) == ("export", ["cluster 0", "cluster 1"])
    assert found["metrics"]["max_difference"] < 1e-4
    assert {"runs/self-label", "runs/prepare"} <= paths(found)


def test_what_no_stage_wrote_is_refused(project, refused):
    assert "not the output of a stage" in refused("inspect", "params.yaml")
    assert "no such file" in refused("inspect", "runs/clusters")
