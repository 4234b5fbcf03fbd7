import json
from pathlib import Path

import numpy as np
import pytest

from sslpipe.io.errors import UserError
from stages.evaluate import evaluate

OUT = Path("runs/evaluate")
MODELS = ["kmeans_pixels", "kmeans_features", "cluster", "self_label"]


def test_writes_a_row_a_model(finished, read_csv):
    metrics = json.loads((finished / OUT / "metrics.json").read_text())
    assert sorted(metrics) == sorted(MODELS)
    for row in metrics.values():
        assert {"cluster_acc", "nmi", "ari", "many_to_one_acc", "protocol", "seed", "images"} <= set(row)
        assert 0.1 <= row["cluster_acc"] <= row["many_to_one_acc"] <= 1
    assert metrics["kmeans_pixels"]["cluster_acc"] == pytest.approx(0.79, abs=0.12)
    table = read_csv(finished / OUT / "table.csv")
    assert [row["model"] for row in table] == MODELS


def test_confusion_and_classes_and_clusters_agree_with_the_figures(finished, read_csv):
    metrics = json.loads((finished / OUT / "metrics.json").read_text())
    for model in MODELS:
        pairs = read_csv(finished / OUT / model / "confusion.csv")
        right = sum(pair["actual"] == pair["predicted"] for pair in pairs) / len(pairs)
        assert right == pytest.approx(metrics[model]["cluster_acc"])
        clusters = read_csv(finished / OUT / model / "clusters.csv")
        assert sum(int(row["images"]) for row in clusters) == len(pairs) == metrics[model]["images"]
        classes = read_csv(finished / OUT / model / "classes.csv")
        mean = sum(int(row["images"]) * float(row["accuracy"]) for row in classes) / len(pairs)
        assert mean == pytest.approx(right)


def test_one_metric_by_name(project, sslpipe):
    done = sslpipe("evaluate", "--metric", "cluster-acc")
    assert done.returncode == 0, done.stderr
    assert "cluster_acc" in done.stdout
    assert "nmi" not in done.stdout
    assert "protocol split" in done.stdout


def test_an_unknown_metric_is_refused_before_any_work(sslpipe, tmp_path):
    done = sslpipe("evaluate", "--metric", "cluster-accuracy", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'cluster_acc'?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_labels_the_figures_that_need_none_are_given(project, capsys):
    path = Path("runs/prepare/test/labels.npy")
    np.save(path, np.full_like(np.load(path), -1))
    evaluate()
    metrics = json.loads((OUT / "metrics.json").read_text())
    assert "cluster_acc" not in metrics["cluster"]
    assert metrics["cluster"]["clusters_used"] >= 1
    assert not (OUT / "cluster/confusion.csv").exists()


def test_a_missing_model_is_named(project):
    Path("runs/self-label/model.json").unlink()
    with pytest.raises(UserError, match=r"runs/self-label/model\.json: no such file; run 'sslpipe self-label'"):
        evaluate()
