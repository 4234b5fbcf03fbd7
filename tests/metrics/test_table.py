"""The table of metrics, as it is read in a log."""

import re
from inspect import isfunction
from typing import Any

import numpy as np
import pytest

from sslpipe.io.errors import UserError
from sslpipe.metrics import definitions
from sslpipe.metrics.clustering import clustering_metrics
from sslpipe.metrics.table import METRICS, Shown, chosen_metrics, highest, print_table, shown_by_default

WITH_LABELS = shown_by_default(Shown.RUN)

METADATA = {"protocol": "split", "seed": 3, "images": 360}
MODELS: dict[str, dict[str, Any]] = {
    "cluster": {"cluster_acc": 0.91, "nmi": 0.8, "many_to_one_acc": 0.92, "clusters_used": 10, **METADATA},
    "finetune.semisupervised": {**dict.fromkeys(WITH_LABELS, 0.96512), **METADATA, "labels": 40},
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]


def test_the_usual_table_fits_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(MODELS, None)
    title, _, header, _, cluster, classifier, _ = capsys.readouterr().out.splitlines()
    assert title == "protocol split, 360 images scored, seed 3, 40 labels"
    assert cells(header) == ["model", *WITH_LABELS]
    assert cells(cluster) == ["cluster", "-", "0.910", "-", "0.800", "-", "-", "-", "-"]
    assert cells(classifier) == ["finetune.semisupervised", *["0.965"] * 8]
    assert len(classifier) <= 120


def test_classifiers_on_the_layers_stand_under_their_model_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    row = MODELS["finetune.semisupervised"]
    print_table({**MODELS, "finetune.semisupervised/projection_1": row}, None)
    lines = capsys.readouterr().out.splitlines()
    assert [cells(line)[0] for line in lines[4:7]] == ["cluster", "finetune.semisupervised", "/projection_1"]
    assert len(lines) == 8
    assert len(lines[6]) <= 120


def test_no_labels_no_word_of_them_and_different_ones_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"cluster": MODELS["cluster"]}, None)
    assert capsys.readouterr().out.splitlines()[0] == "protocol split, 360 images scored, seed 3"
    print_table({**MODELS, "other": {**MODELS["cluster"], "labels": 100}}, None)
    assert "seed 3, 40 or 100 labels\n" in capsys.readouterr().out
    print_table({**MODELS, "other": {**MODELS["cluster"], "labels": 40, "labels_chosen": True}}, None)
    assert "seed 3, 40 labels chosen, not drawn\n" in capsys.readouterr().out


def test_where_no_label_is_known_the_metrics_that_need_none_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"cluster": {"clusters_used": 10, "largest_share": 0.5, "mean_confidence": 0.75, **METADATA}}, None)
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[2]) == ["model", "clusters_used", "largest_share", "mean_confidence"]
    assert cells(lines[4]) == ["cluster", "10", "0.500", "0.750"]


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_can_be_asked_for_by_name(metric: str) -> None:
    assert chosen_metrics(metric) == chosen_metrics(metric.replace("_", "-")) == (metric,)


def test_one_metric_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(MODELS, ("clusters_used",))
    lines = capsys.readouterr().out.splitlines()
    assert [cells(line) for line in lines[4:6]] == [["cluster", "10"], ["finetune.semisupervised", "-"]]


def test_a_metric_that_no_model_has_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"cluster": MODELS["cluster"]}, ("gap",))
    assert "no model has gap" in capsys.readouterr().out


def test_an_unknown_metric_is_refused() -> None:
    assert chosen_metrics(None) is None
    with pytest.raises(UserError, match="--metric: unknown name 'gaps'; did you mean 'gap'"):
        chosen_metrics("gaps")


def test_every_metric_has_a_function_or_is_one_without_labels_and_every_function_has_a_line():
    functions = {
        name
        for name, value in vars(definitions).items()
        if isfunction(value) and value.__module__ == definitions.__name__ and name[0] != "_"
    }
    without_labels = set(clustering_metrics(np.eye(2, dtype=np.float32)))
    assert functions | without_labels == set(METRICS)
    assert not functions & without_labels


def test_a_model_that_leaves_clusters_empty_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "cluster": {"clusters_used": 1, "outputs": 10},
        "self_label": {"clusters_used": 10, "outputs": 10},
        "kmeans_pixels": {"clusters_used": 3},  # of an older evaluation
        "semisup.fixmatch": {"clusters_used": 9, "outputs": 10},  # a class without test images
        "finetune.linear": {"clusters_used": 1, "outputs": 10},
    }
    print_table({name: {**row, **METADATA} for name, row in rows.items()}, None)
    lines = [line for line in capsys.readouterr().out.splitlines() if "all images" in line]
    assert lines == [
        "cluster: all images are in 1 of 10 clusters",
        "finetune.linear: all images are in 1 of 10 classes",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 130])
def test_on_a_terminal_names_stay_whole_and_columns_without_room_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    print_table({**MODELS, "finetune.semisupervised/projection_1": MODELS["finetune.semisupervised"]}, None)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()[1:]
    table = [line for line in lines if not line.startswith("not shown")]
    assert all(len(line) <= width for line in table)
    assert sum("finetune.semisupervised " in line for line in table) == 1
    assert sum("  /projection_1 " in line for line in table) == 1
    classifier = next(line for line in table if "finetune.semisupervised" in line)
    left_out = lines[-1].partition(": ")[2].split(", ") if lines[-1].startswith("not shown") else []
    assert classifier.count("0.965") == len(WITH_LABELS) - len(left_out)
    assert left_out == list(WITH_LABELS[len(WITH_LABELS) - len(left_out) :])
    assert bool(left_out) == (width < 80)


def test_the_highest_accuracies_are_named_with_their_models() -> None:
    assert highest(MODELS) == ("2 rows; highest acc 0.965, finetune.semisupervised; highest cluster_acc 0.910, cluster")
    assert highest({"cluster": {"nmi": 1.0}}) == "1 row; no labels, so no accuracy"
