import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from sslpipe.io.errors import UserError
from sslpipe.metrics import evaluation
from sslpipe.nets.model_file import load_model
from stages.evaluate import evaluate
from stages.finetune import finetune
from stages.semisup import semisup

OUT = Path("runs/evaluate")
GROUPINGS = ["kmeans_pixels", "kmeans_features", "cluster", "self_label"]
WATCHED = ["semisup.suave", "semisup.daino", "finetune.semisupervised"]
LAYERS = ["backbone", "projection_1", "projection_2"]


@pytest.fixture
def classifiers(tiny):
    """Model → its entry in params.yaml."""
    return {f"{stage}.{key}": e for stage in ("semisup", "finetune") for key, e in tiny[stage]["methods"].items()}


@pytest.fixture
def models(classifiers):
    """The rows of the table, in their order: a model with classifiers on its layers is followed by these."""
    rows = list(GROUPINGS)
    for model in classifiers:
        rows += [model, *(f"{model}/{layer}" for layer in LAYERS if model in WATCHED)]
    return rows


def test_writes_a_row_a_model(finished, read_csv, models):
    metrics = json.loads((finished / OUT / "metrics.json").read_text())
    assert list(metrics) == models
    for model, row in metrics.items():
        assert {"cluster_acc", "nmi", "ari", "protocol", "seed", "images"} <= set(row)
        # A classifier has as many outputs as there are classes, and no use for several of one class.
        greatest = row["many_to_one_acc"] if model in GROUPINGS else 1
        assert 0.1 <= row["cluster_acc"] <= greatest <= 1
    assert metrics["kmeans_pixels"]["cluster_acc"] == pytest.approx(0.79, abs=0.12)
    table = read_csv(finished / OUT / "table.csv")
    assert [row["model"] for row in table] == models


def test_a_classifiers_row_has_its_own_naming_the_best_ones_and_what_it_is_made_of(finished, read_csv, classifiers):
    metrics = json.loads((finished / OUT / "metrics.json").read_text())
    for model, entry in classifiers.items():
        row = metrics[model]
        assert (row["labels"], row["start"]) == (40, entry["start"])
        assert row["gap"] == pytest.approx(row["cluster_acc"] - row["acc"])
        assert row["gap"] >= 0
        assert row["acc"] <= row["top5_acc"] <= 1
        assert 0 <= row["ece"] <= 1
        ranked = read_csv(finished / OUT / model / "permutations.csv")
        assert len(ranked) == 100
        for k in (1, 10, 100):
            assert row[f"best_of_{k}_acc"] == float(ranked[k - 1]["best"])
        assert row["best_of_1_acc"] <= row["best_of_10_acc"] <= row["best_of_100_acc"] <= row["cluster_acc"]
    for model in GROUPINGS:
        assert not {"acc", "gap", "labels", "start", "best_of_1_acc"} & set(metrics[model])
        assert not (finished / OUT / model / "permutations.csv").exists()


@pytest.mark.parametrize("model", WATCHED)
def test_classifiers_on_the_layers_are_scored_on_the_test_images(finished, read_csv, model):
    """The accuracy of each by hand, from the weights in the model's file; the model's own row does not need them."""
    metrics = json.loads((finished / OUT / "metrics.json").read_text())
    folder = finished.joinpath("runs", *model.split("."))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    network, _ = load_model(folder)
    images = np.load(finished / "runs/prepare/test/images.npy")
    label = torch.from_numpy(np.load(finished / "runs/prepare/test/labels.npy"))
    with torch.no_grad():
        features = network.eval().features(torch.from_numpy(images).float() / 255)
        outputs = [features, *network.head.layers(features)]
    for layer, output in zip(LAYERS, outputs, strict=True):
        name = f"monitors.layers.{layer}"
        logits = output @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        row = metrics[f"{model}/{layer}"]
        expected = (logits.argmax(dim=1) == label).double().mean().item()
        assert row["acc"] == pytest.approx(expected, abs=1.5 / len(label))
        assert (row["labels"], row["start"]) == (metrics[model]["labels"], metrics[model]["start"])
        assert "best_of_1_acc" not in row
        pairs = read_csv(finished / OUT / model / layer / "confusion.csv")
        assert sum(pair["actual"] == pair["predicted"] for pair in pairs) / len(pairs) == pytest.approx(row["acc"])
        assert not (finished / OUT / model / layer / "permutations.csv").exists()


def test_a_model_without_classifiers_on_its_layers_has_no_rows_for_them(project, models):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["semisup"]["suave"]["monitors"] = False
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    semisup(method="suave")
    assert json.loads(Path("runs/semisup/suave/model.json").read_text())["network"]["monitors"] == []
    finetune(method="semisupervised")
    evaluate()
    found = list(json.loads((OUT / "metrics.json").read_text()))
    assert found == [model for model in models if not model.startswith("semisup.suave/")]


def test_confusion_and_classes_and_clusters_agree_with_the_figures(finished, read_csv, classifiers):
    metrics = json.loads((finished / OUT / "metrics.json").read_text())
    for model in [*GROUPINGS, *classifiers]:
        pairs = read_csv(finished / OUT / model / "confusion.csv")
        right = sum(pair["actual"] == pair["predicted"] for pair in pairs) / len(pairs)
        assert right == pytest.approx(metrics[model]["acc" if model in classifiers else "cluster_acc"])
        clusters = read_csv(finished / OUT / model / "clusters.csv")
        assert sum(int(row["images"]) for row in clusters) == len(pairs) == metrics[model]["images"]
        classes = read_csv(finished / OUT / model / "classes.csv")
        mean = sum(int(row["images"]) * float(row["accuracy"]) for row in classes) / len(pairs)
        assert mean == pytest.approx(right)


def test_one_metric_by_name(project, at_once):
    code, out, err = at_once("evaluate", "--metric", "cluster-acc")
    assert code == 0, err
    assert "cluster_acc" in out
    assert "nmi" not in out
    assert "protocol split" in out


def test_an_unknown_metric_is_refused_before_any_work(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'cluster_acc'?" in refused("evaluate", "--metric", "cluster-accuracy")


def test_without_labels_the_figures_that_need_none_are_given(project, capsys):
    path = Path("runs/prepare/test/labels.npy")
    np.save(path, np.full_like(np.load(path), -1))
    evaluate()
    metrics = json.loads((OUT / "metrics.json").read_text())
    assert "cluster_acc" not in metrics["cluster"]
    assert metrics["cluster"]["clusters_used"] >= 1
    assert not (OUT / "cluster/confusion.csv").exists()


def test_a_listed_method_that_has_not_run_is_left_out_with_one_line(project, capsys, classifiers):
    before = json.loads((OUT / "metrics.json").read_text())
    shutil.rmtree("runs/semisup/suave")
    shutil.rmtree("runs/finetune")
    evaluate()
    after = json.loads((OUT / "metrics.json").read_text())
    gone = ["semisup.suave", *(model for model in classifiers if model.startswith("finetune"))]
    assert after == {model: row for model, row in before.items() if model.partition("/")[0] not in gone}
    lines = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    paths = [Path("runs", *model.split(".")) for model in gone]
    assert lines == [
        f"{model}: {path} does not exist and is left out; 'dvc repro' runs all stages"
        for model, path in zip(gone, paths, strict=True)
    ]


def test_a_method_that_is_not_listed_is_not_scored(project, tiny):
    for name in ("semisup", "finetune"):
        tiny = {**tiny, name: {**tiny[name], "methods": {}}}
    Path("params.yaml").write_text(yaml.safe_dump(tiny))
    evaluate()
    assert list(json.loads((OUT / "metrics.json").read_text())) == GROUPINGS


def test_label_permutations_are_left_out_at_many_classes_with_one_line(project, capsys, classifiers, monkeypatch):
    monkeypatch.setattr(evaluation, "MOST_CLASSES", 9)
    before = json.loads((OUT / "metrics.json").read_text())
    evaluate()
    metrics = json.loads((OUT / "metrics.json").read_text())
    for model in classifiers:
        best = {f"best_of_{k}_acc" for k in (1, 10, 100)}
        assert metrics[model] == {name: value for name, value in before[model].items() if name not in best}
        assert not (OUT / model / "permutations.csv").exists()
    lines = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert lines == [
        "evaluate: label permutations (best_of_<k>_acc) are left out at 10 classes; evaluate.permutations sets "
        "their number"
    ]


def test_the_number_of_label_permutations_is_a_setting(project, tiny, read_csv, capsys, classifiers, monkeypatch):
    monkeypatch.setattr(evaluation, "MOST_CLASSES", 9)
    Path("params.yaml").write_text(yaml.safe_dump({**tiny, "evaluate": {"permutations": 10}}))
    evaluate(metric="best-of-100-acc")
    metrics = json.loads((OUT / "metrics.json").read_text())
    for model in classifiers:
        assert len(read_csv(OUT / model / "permutations.csv")) == 10
        assert {"best_of_1_acc", "best_of_10_acc"} <= set(metrics[model])
        assert "best_of_100_acc" not in metrics[model]
    assert "left out" not in capsys.readouterr().out


def test_a_classifier_of_other_classes_is_refused(project):
    path = Path("runs/prepare/labelled/classes.json")
    names = json.loads(path.read_text())
    path.write_text(json.dumps([*names[:9], "nine"]))
    with pytest.raises(UserError, match=r"supervised/model\.json: classes: '9' found, expected 'nine' at its place"):
        evaluate()
    path.write_text(json.dumps([*names, "ten"]))
    with pytest.raises(UserError, match=r"runs/semisup/supervised/model\.json: outputs: 10 found, expected 11"):
        evaluate()


def test_a_missing_model_is_named(project):
    Path("runs/self-label/model.json").unlink()
    with pytest.raises(UserError, match=r"runs/self-label/model\.json: no such file; run 'sslpipe self-label'"):
        evaluate()


def test_stored_features_give_the_metrics_that_images_give(project, capsys):
    """Of a model with the pretrained backbone, as the test project's clusters are, only the head is computed."""
    evaluate()
    assert "no features of" not in capsys.readouterr().out
    stored = json.loads(Path("runs/evaluate/metrics.json").read_text())
    shutil.rmtree("runs/features")
    evaluate()
    out = capsys.readouterr().out
    assert "runs/features: no features of runs/pretrain found, so they are computed; 'sslpipe features' stores" in out
    computed = json.loads(Path("runs/evaluate/metrics.json").read_text())
    assert stored.keys() == computed.keys()
    for name in ("cluster", "kmeans_features"):
        assert stored[name]["cluster_acc"] == pytest.approx(computed[name]["cluster_acc"], abs=0.01)
