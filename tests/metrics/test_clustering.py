"""Cluster scores against enumeration, their invariances, and the values known beforehand."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sslpipe.metrics.clustering import (
    ClassMetrics,
    ari,
    cluster_accuracy,
    cluster_sizes,
    clustering_metrics,
    confusion,
    contingency,
    many_to_one_accuracy,
    nmi,
    per_class,
    size_entropy,
    top_k_accuracy,
)
from sslpipe.metrics.mappings import UNMAPPED

Ints = NDArray[np.int64]


@st.composite
def groupings(draw: st.DrawFn, clusters: int = 5, classes: int = 4) -> tuple[Ints, Ints]:
    """Predictions and labels of up to 40 images, at least one label known."""
    size = draw(st.integers(1, 40))
    prediction = draw(arrays(np.int64, size, elements=st.integers(0, clusters - 1)))
    label = draw(arrays(np.int64, size, elements=st.integers(-1, classes - 1)))
    label[0] = max(label[0], 0)
    return prediction, label


def best_by_enumeration(prediction: Ints, label: Ints, clusters: int, classes: int) -> float:
    """Accuracy of the best one-to-one mapping, by trying all of them."""
    pairs = [(p, y) for p, y in zip(prediction, label, strict=True) if y >= 0]
    # A class number past the last stands for "no class"; there are enough of these for every cluster.
    best = 0
    for mapping in permutations(range(max(clusters, classes)), clusters):
        best = max(best, sum(mapping[p] == y for p, y in pairs))
    return best / len(pairs)


@pytest.mark.parametrize(("clusters", "classes"), [(4, 4), (5, 3), (3, 5)])
def test_cluster_accuracy_is_the_best_of_all_mappings(clusters: int, classes: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        prediction = random.integers(clusters, size=30)
        label = random.integers(-1, classes, size=30)
        accuracy, mapping = cluster_accuracy(prediction, label, n_clusters=clusters, n_classes=classes)
        assert accuracy == pytest.approx(best_by_enumeration(prediction, label, clusters, classes))
        known = label >= 0
        assert accuracy == pytest.approx((mapping[prediction] == label)[known].mean())
        used = mapping[mapping != UNMAPPED]
        assert len(set(used)) == len(used) == min(clusters, classes)


@given(groupings(), st.permutations(range(5)))
def test_scores_do_not_depend_on_the_numbers_of_clusters(grouping: tuple[Ints, Ints], order: list[int]) -> None:
    prediction, label = grouping
    renamed = np.array(order)[prediction]
    for score in (nmi, ari):
        assert score(renamed, label) == pytest.approx(score(prediction, label), abs=1e-9)
    for mapped_score in (cluster_accuracy, many_to_one_accuracy):
        assert mapped_score(renamed, label)[0] == mapped_score(prediction, label)[0]


@given(groupings())
def test_unknown_labels_change_nothing(grouping: tuple[Ints, Ints]) -> None:
    prediction, label = grouping
    known = label >= 0
    assert nmi(prediction, label) == nmi(prediction[known], label[known])
    assert ari(prediction, label) == ari(prediction[known], label[known])
    for score in (cluster_accuracy, many_to_one_accuracy):
        all_images, mapping = score(prediction, label, n_clusters=5, n_classes=4)
        known_images, known_mapping = score(prediction[known], label[known], n_clusters=5, n_classes=4)
        assert all_images == known_images
        assert (mapping == known_mapping).all()


@given(groupings())
def test_many_to_one_is_the_majority_of_each_cluster_and_at_least_one_to_one(grouping: tuple[Ints, Ints]) -> None:
    prediction, label = grouping
    accuracy, mapping = many_to_one_accuracy(prediction, label, n_clusters=5)
    right = 0
    for cluster in range(5):
        counts = [int(((prediction == cluster) & (label == c)).sum()) for c in range(4)]
        right += max(counts)
        assert mapping[cluster] == (counts.index(max(counts)) if max(counts) else UNMAPPED)
    assert accuracy == right / (label >= 0).sum()
    assert accuracy >= cluster_accuracy(prediction, label)[0]


def test_perfect_clusters_reach_one() -> None:
    label = np.repeat(np.arange(6), 10)
    prediction = (label + 2) % 6
    accuracy, mapping = cluster_accuracy(prediction, label)
    assert accuracy == nmi(prediction, label) == ari(prediction, label) == 1
    assert mapping.tolist() == [4, 5, 0, 1, 2, 3]


def test_random_clusters_score_at_chance() -> None:
    random = np.random.default_rng(0)
    label, prediction = random.integers(10, size=(2, 20000))
    assert 0.1 < cluster_accuracy(prediction, label)[0] < 0.115
    assert abs(ari(prediction, label)) < 0.005
    assert nmi(prediction, label) < 0.005


def test_one_cluster_for_all_scores_the_largest_class() -> None:
    label = np.array([0] * 3 + [1] * 5)
    prediction = np.zeros(8, dtype=np.int64)
    assert cluster_accuracy(prediction, label)[0] == many_to_one_accuracy(prediction, label)[0] == 5 / 8
    assert nmi(prediction, label) == ari(prediction, label) == 0


def test_nmi_is_normalised_by_the_arithmetic_mean() -> None:
    # H(label) = ln 2, H(prediction) = ln 4 and the information is ln 2: 1 / ((1 + 2) / 2).
    label, prediction = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])
    assert nmi(prediction, label) == pytest.approx(2 / 3)


def test_empty_clusters_and_classes_keep_their_place() -> None:
    counts = contingency(np.array([0, 2, 3]), np.array([1, 0, -1]), n_clusters=5, n_classes=3)
    assert counts.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    # A cluster of unknown images only has its place in the mapping even if its number is not given.
    assert len(cluster_accuracy(np.array([0, 3]), np.array([0, -1]))[1]) == 4


@pytest.mark.parametrize("mapping", [[2, 0, 1, UNMAPPED], [0, 0, 1, 2]])
@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_top_k_is_a_search_among_the_likeliest_clusters(mapping: list[int], k: int) -> None:
    random = np.random.default_rng(3)
    probability = random.dirichlet(np.ones(4), size=50)
    label = random.integers(-1, 3, size=50)
    hits = [
        label[i] in [mapping[c] for c in sorted(range(4), key=lambda c: -probability[i, c])[:k]]
        for i in range(50)
        if label[i] >= 0
    ]
    assert top_k_accuracy(probability, label, np.array(mapping), k) == pytest.approx(np.mean(hits))


def test_top_1_is_the_cluster_accuracy() -> None:
    random = np.random.default_rng(4)
    probability, label = random.dirichlet(np.ones(5), size=100), random.integers(3, size=100)
    accuracy, mapping = cluster_accuracy(probability.argmax(axis=1), label, n_clusters=5)
    assert top_k_accuracy(probability, label, mapping, 1) == pytest.approx(accuracy)


def test_confusion_counts_pairs_and_unmapped_images_in_the_last_column() -> None:
    prediction = np.array([0, 1, 1, UNMAPPED, 2, 0])
    label = np.array([0, 0, 1, 1, -1, 0])
    assert confusion(prediction, label, 3).tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert per_class(prediction, label, 3) == [
        ClassMetrics(count=3, accuracy=2 / 3, confused_with=1, confused_count=1),
        ClassMetrics(count=2, accuracy=1 / 2, confused_with=None, confused_count=0),
        ClassMetrics(count=0, accuracy=None, confused_with=None, confused_count=0),
    ]


def test_sizes_count_unlabelled_images_and_empty_clusters() -> None:
    assert cluster_sizes(np.array([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize(
    ("sizes", "expected"), [([5, 5, 5], 1), ([9, 0, 0], 0), ([4, 4, 0, 0], 0.5), ([7], 1)], ids=str
)
def test_size_entropy(sizes: list[int], expected: float) -> None:
    assert size_entropy(np.array(sizes)) == pytest.approx(expected)


def test_clustering_metrics_need_no_label() -> None:
    probability = np.array([[0.9, 0.1, 0], [0.7, 0.3, 0], [0.4, 0.6, 0], [1, 0, 0]])
    assert clustering_metrics(probability) == pytest.approx(
        {
            "clusters_used": 2,
            "largest_share": 0.75,
            "mean_confidence": 0.8,
            "size_entropy": -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(3),
        }
    )


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        ([0, 1], [-1, -1], "none of 2 labels is known"),
        ([0, 1], [0, 1, 1], "2 rows found, expected one for each of 3 labels"),
        ([0, 1], [0, -2], "label: -2 found, expected at least -1"),
        ([0, -1], [0, 1], "prediction: -1 found, expected at least 0"),
        ([0.0, 1.0], [0, 1], "prediction: shape .* of float64 found"),
        ([0, 9], [0, 1], "prediction: 9 found, expected below 5"),
        ([0, 1], [0, 7], "label: 7 found, expected below 4"),
    ],
)
def test_wrong_input_is_named(prediction: list[int], label: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_accuracy(np.array(prediction), np.array(label), n_clusters=5, n_classes=4)


def test_wrong_probabilities_mappings_and_k_are_named() -> None:
    with pytest.raises(ValueError, match="without NaN"):
        top_k_accuracy(np.array([[0.5, np.nan]]), np.array([0]), np.array([0, 1]), 1)
    with pytest.raises(ValueError, match="mapping: 1 clusters found, expected 2"):
        top_k_accuracy(np.array([[0.5, 0.5]]), np.array([0]), np.array([0]), 1)
    with pytest.raises(ValueError, match="k: 0 found"):
        top_k_accuracy(np.eye(2), np.arange(2), np.arange(2), 0)


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        ([0, 2], [0, 1], "prediction: 2 found, expected below 2"),
        ([0, 1], [0, 2], "label: 2 found, expected below 2"),
    ],
)
def test_confusion_refuses_classes_without_a_row_or_column(
    prediction: list[int], label: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        confusion(np.array(prediction), np.array(label), 2)


def test_top_1_is_the_lowest_of_equal_clusters_as_everywhere() -> None:
    # 40 columns: an unstable sort keeps the order of only a few.
    probability = np.random.default_rng(0).integers(1, 4, (60, 40)) / 200
    label = np.arange(60) % 40
    accuracy = float((probability.argmax(axis=1) == label).mean())
    assert top_k_accuracy(probability, label, np.arange(40), 1) == accuracy > 0
