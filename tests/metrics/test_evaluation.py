"""What is known of a grouping and of a classifier, and the files that hold it."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.metrics import definitions
from sslpipe.metrics.definitions import Predictions
from sslpipe.metrics.evaluation import (
    EvaluateSettings,
    Evaluation,
    evaluate_classifier,
    evaluate_clusters,
    write_evaluations,
)
from sslpipe.metrics.mappings import UNMAPPED
from sslpipe.metrics.table import METRICS

LABEL_FREE = {"clusters_used", "largest_share", "mean_confidence", "size_entropy"}
NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]


def sure(prediction: Any, classes: int, confidence: float = 1.0) -> np.ndarray:
    """[N, classes] probabilities: `confidence` in the prediction, the rest shared out."""
    rest = (1 - confidence) / (classes - 1)
    return np.where(np.eye(classes, dtype=bool)[np.asarray(prediction)], confidence, rest)


def votes_of(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """[outputs, classes]: the predictions summed over the images of each class."""
    return np.stack([probability[label == c].sum(axis=0) for c in range(probability.shape[1])], axis=1)


def test_a_classifier_by_hand() -> None:
    # Four known images: ants are called bees twice, the bee ant, the cat cat.
    label = np.array([0, 0, 1, 2, -1])
    found = evaluate_classifier(sure([1, 1, 0, 2, 2], 3, 0.8), label, NAMES[:3])
    assert found.metrics == pytest.approx(
        {
            "acc": 1 / 4,
            "cluster_acc": 1,
            "gap": 3 / 4,
            "nmi": 1,
            "ari": 1,
            "ece": 0.8 - 1 / 4,
            "clusters_used": 3,
            "largest_share": 2 / 5,
            "mean_confidence": 0.8,
            "size_entropy": -(2 * 0.4 * np.log(0.4) + 0.2 * np.log(0.2)) / np.log(3),
        }
    )
    assert found.sizes.tolist() == [1, 2, 2]
    assert found.mapping.tolist() == [0, 1, 2]
    # By the model's own names, not by the best ones.
    assert [(pair["actual"], pair["predicted"]) for pair in found.confusion] == [
        ("ant", "bee"),
        ("ant", "bee"),
        ("bee", "ant"),
        ("cat", "cat"),
    ]
    assert [(row["class"], row["images"], row["accuracy"], row["most_confused_with"]) for row in found.classes] == [
        ("ant", 2, 0, "bee"),
        ("bee", 1, 0, "ant"),
        ("cat", 1, 1, ""),
    ]
    assert found.permutations == []


@given(st.integers(0, 10_000), st.integers(2, 7))
def test_the_gap_is_never_negative_and_names_cost_nothing_else(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    probability = random.dirichlet(np.ones(classes), size=30)
    label = random.integers(-1, classes, size=30)
    label[0] = 0
    names = NAMES[:classes]
    found = evaluate_classifier(probability, label, names).metrics
    assert found["gap"] >= 0
    assert found["gap"] == pytest.approx(found["cluster_acc"] - found["acc"])
    renamed = evaluate_classifier(probability[:, random.permutation(classes)], label, names).metrics
    for metric in ("cluster_acc", "nmi", "ari", "mean_confidence", "size_entropy"):
        assert renamed[metric] == pytest.approx(found[metric])


@given(st.permutations(range(6)))
def test_a_perfect_classifier_under_other_names_lacks_nothing_but_the_names(order: list[int]) -> None:
    label = np.repeat(np.arange(6), 5)
    probability = sure(np.array(order)[label], 6, 0.9)
    found = evaluate_classifier(probability, label, NAMES[:6], votes=votes_of(probability, label)).metrics
    kept = np.mean(np.array(order) == np.arange(6))
    assert found["acc"] == pytest.approx(kept)
    assert found["gap"] == pytest.approx(1 - kept)
    assert found["cluster_acc"] == found["nmi"] == found["ari"] == found["best_of_1_acc"] == 1


def test_top_5_is_that_of_classes() -> None:
    # The class is the most probable, the fifth and the sixth of seven.
    places = [0, 4, 5]
    row = np.arange(7, 0, -1) / 28
    found = evaluate_classifier(np.tile(row, (3, 1)), np.array(places), NAMES).metrics
    assert found["acc"] == 1 / 3
    assert found["top5_acc"] == 2 / 3
    assert "top5_acc" not in evaluate_classifier(np.eye(5), np.arange(5), NAMES[:5]).metrics


def test_more_permutations_of_names_find_more() -> None:
    random = np.random.default_rng(1)
    label = random.integers(5, size=300)
    probability = sure((label + 1) % 5, 5, 0.6)
    found = evaluate_classifier(probability, label, NAMES[:5], votes=random.random((5, 5)))
    best = [found.metrics[f"best_of_{k}_acc"] for k in (1, 10, 100)]
    assert best == [found.permutations[k - 1]["best"] for k in (1, 10, 100)]
    assert best == sorted(best)
    assert best[0] < best[2]
    assert len(found.permutations) == 100


def test_two_classes_have_two_namings() -> None:
    label = np.array([0, 1, 1])
    found = evaluate_classifier(sure(1 - label, 2), label, NAMES[:2], votes=np.eye(2))
    assert [row["accuracy"] for row in found.permutations] == [0, 1]
    assert [found.metrics[f"best_of_{k}_acc"] for k in (1, 10, 100)] == [0, 1, 1]


def test_without_a_known_label_only_what_needs_none() -> None:
    label = np.full(4, -1)
    found = evaluate_classifier(sure([0, 1, 1, 1], 3), label, NAMES[:3], votes=np.eye(3))
    assert set(found.metrics) == LABEL_FREE
    assert found.mapping.tolist() == [0, 1, 2]
    assert found.confusion == found.classes == found.permutations == []


def test_a_model_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"probability: shape \(2, 3\) found, expected \(2, 4\)"):
        evaluate_classifier(np.eye(3)[:2], np.array([0, 1]), NAMES[:4])


def test_every_metric_has_its_place_in_the_table() -> None:
    label = np.arange(7)
    probability = sure(label, 7)
    known = evaluate_classifier(probability, label, NAMES, votes=np.eye(7)).metrics
    grouped = evaluate_clusters(probability, label, NAMES, clusters=7).metrics
    assert set(known) | set(grouped) == set(METRICS)


def test_clusters_by_hand() -> None:
    # Seven clusters of which four are used; no image has the class dog.
    cluster = np.array([4, 4, 0, 1, 1, 6])
    label = np.array([0, 0, 1, 2, 1, -1])
    found = evaluate_clusters(sure(cluster, 7, 0.7), label, NAMES[:4], clusters=7)
    without_labels = {
        "clusters_used": 4,
        "largest_share": 1 / 3,
        "size_entropy": (2 * np.log(3) + np.log(6)) / 3 / np.log(7),
    }
    assert found.metrics["cluster_acc"] == pytest.approx(4 / 5)
    assert found.metrics["many_to_one_acc"] == pytest.approx(4 / 5)
    assert {name: found.metrics[name] for name in without_labels} == pytest.approx(without_labels)
    assert found.metrics["mean_confidence"] == pytest.approx(0.7)
    assert set(found.metrics) == {
        *("cluster_acc", "many_to_one_acc", "nmi", "ari", "top5_acc", "mean_confidence"),
        *without_labels,
    }
    assert found.sizes.tolist() == [1, 2, 0, 0, 2, 0, 1]
    # Each class has a cluster, also the one without images.
    assert sorted(to for to in found.mapping.tolist() if to >= 0) == [0, 1, 2, 3]
    assert [found.mapping[of] for of in (4, 0, 1)] == [0, 1, 2]

    hard = evaluate_clusters(cluster, label, NAMES[:4], clusters=7)
    assert hard.metrics == {
        name: value for name, value in found.metrics.items() if name not in ("mean_confidence", "top5_acc")
    }
    assert hard.sizes.tolist() == found.sizes.tolist()
    assert hard.confusion == found.confusion


def test_clusters_without_a_known_label_have_sizes_and_no_class() -> None:
    found = evaluate_clusters(sure([0, 2, 2], 4, 0.9), np.full(3, -1), NAMES[:2], clusters=4)
    assert set(found.metrics) == LABEL_FREE
    assert found.metrics["mean_confidence"] == pytest.approx(0.9)
    assert found.sizes.tolist() == [1, 0, 2, 0]
    assert found.mapping.tolist() == [UNMAPPED] * 4


def test_a_class_that_is_never_predicted_has_a_size() -> None:
    label = np.array([0, 1, 1])
    assert evaluate_classifier(sure([0, 1, 1], 3), label, NAMES[:3]).sizes.tolist() == [1, 2, 0]
    assert evaluate_classifier(sure([0, 1, 1], 3), label - label - 1, NAMES[:3]).sizes.tolist() == [1, 2, 0]


def test_best_of_k_is_the_best_of_the_first_k_permutations() -> None:
    rows = [{"rank": rank, "best": rank / 200} for rank in range(1, 151)]
    model = Predictions(
        output=np.array([0]), label=np.array([0]), outputs=2, classes=2, is_classifier=True, permutations=rows
    )
    found = [getattr(definitions, f"best_of_{k}_acc")(model) for k in (1, 10, 100)]
    assert found == [1 / 200, 10 / 200, 100 / 200]


def test_best_of_k_is_absent_if_fewer_were_evaluated_than_there_are() -> None:
    label = np.arange(5)
    found = evaluate_classifier(sure(label, 5), label, NAMES[:5], votes=np.eye(5), permutations=10)
    assert len(found.permutations) == 10
    assert {"best_of_1_acc", "best_of_10_acc"} <= set(found.metrics)
    assert "best_of_100_acc" not in found.metrics
    # 3! are all, which is why more are not evaluated.
    assert "best_of_100_acc" in evaluate_classifier(sure([0, 1], 3), label[:2], NAMES[:3], votes=np.eye(3)).metrics


@pytest.mark.parametrize(
    ("given", "classes", "expected"),
    [(None, 10, 100), (None, 2000, 100), (None, 2001, 0), (0, 10, 0), (7, 10, 7), (3, 1000, 3)],
)
def test_label_permutations_are_bounded_at_many_classes(given: int | None, classes: int, expected: int) -> None:
    assert EvaluateSettings(permutations=given).permutations_of(classes) == expected


@pytest.fixture
def written(tmp_path: Path) -> Path:
    label = np.array([0, 0, 1, 1])
    grouping = evaluate_clusters(np.array([2, 2, 0, 1]), label, NAMES[:2], clusters=3)
    classifier = evaluate_classifier(sure([0, 1, 1, 1], 2), label, NAMES[:2], votes=np.eye(2))
    evaluations: dict[str, Evaluation] = {
        "cluster": grouping,
        "semisup.fixmatch": replace(classifier, metadata={"labels": 10, "start": "pretrain"}),
    }
    metrics = write_evaluations(tmp_path, evaluations, NAMES[:2], {"protocol": "split", "seed": 3, "images": 4})
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_row_a_model_with_the_metadata_of_the_run_and_its_own(written: Path) -> None:
    grouping, classifier = json.loads((written / "metrics.json").read_text()).values()
    assert {key: grouping[key] for key in ("protocol", "seed", "images")} == {
        "protocol": "split",
        "seed": 3,
        "images": 4,
    }
    assert (classifier["acc"], classifier["seed"], classifier["labels"], classifier["start"]) == (
        0.75,
        3,
        10,
        "pretrain",
    )
    assert not {"acc", "labels", "start"} & set(grouping)
    table = rows(written / "table.csv")
    assert [(row["model"], row["acc"], row["labels"]) for row in table] == [
        ("cluster", "", ""),
        ("semisup.fixmatch", "0.75", "10"),
    ]


def test_a_folder_a_model(written: Path) -> None:
    clusters = rows(written / "cluster/clusters.csv")
    assert [(row["cluster"], row["class"]) for row in clusters] == [("0", "bee"), ("1", ""), ("2", "ant")]
    assert not (written / "cluster/permutations.csv").exists()
    folder = written / "semisup.fixmatch"
    assert [(row["images"], row["class"]) for row in rows(folder / "clusters.csv")] == [("1", "ant"), ("3", "bee")]
    assert [row["predicted"] for row in rows(folder / "confusion.csv")] == ["ant", "bee", "bee", "bee"]
    classes = rows(folder / "classes.csv")
    assert [(row["accuracy"], row["confused"]) for row in classes] == [("0.5", "1"), ("1.0", "0")]
    assert [row["accuracy"] for row in rows(folder / "permutations.csv")] == ["0.75", "0.25"]
