"""What small faults showed the other tests of metrics not to notice: edges, equal counts, settings, precision."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from sslpipe.data.images import Images
from sslpipe.metrics import kmeans as kmeans_module
from sslpipe.metrics.classification import calibration_error
from sslpipe.metrics.clustering import per_class, size_entropy
from sslpipe.metrics.evaluation import evaluate_clusters
from sslpipe.metrics.kmeans import KMeansSettings, kmeans
from sslpipe.metrics.neighbors import MIN_PAIRS, purities, vote_size
from sslpipe.metrics.representation import alignment, uniformity
from sslpipe.metrics.table import print_table
from sslpipe.nets.inference import flat_pixels


def noise_images(count: int, seed: int) -> Images:
    """Images without groups, which k-means divides otherwise from every start."""
    array = np.random.default_rng(seed).integers(0, 256, (count, 1, 3, 3)).astype(np.uint8)
    return Images(array, torch.device("cpu"))


def test_kmeans_follows_seed_and_restarts() -> None:
    train, scored = noise_images(120, 0), noise_images(30, 1)
    found = {}
    for seed, restarts in [(0, 1), (3, 1), (3, 5)]:
        clusters = kmeans(
            flat_pixels, train, scored, clusters=8, settings=KMeansSettings(restarts=restarts), seed=seed
        ).tolist()
        model = KMeans(8, n_init=restarts, random_state=seed).fit(flat_pixels(train))
        assert clusters == model.predict(flat_pixels(scored)).tolist()
        found[seed, restarts] = tuple(clusters)
    assert len(set(found.values())) == 3


def test_kmeans_takes_as_many_images_as_clusters_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans_module, "MAX_BYTES", 1)
    scored = noise_images(30, 1)
    found = kmeans(flat_pixels, noise_images(50, 0), scored, clusters=6, settings=KMeansSettings(restarts=1), seed=0)
    assert found.shape == (30,)
    assert set(found.tolist()) <= set(range(6))


def test_a_confidence_that_rounding_has_put_above_one_is_in_the_last_bin() -> None:
    # Right at 1.005 and wrong at 0.99: their gaps, -0.005 and -0.99, add up in one bin.
    probability = np.array([[1.005, 0.0], [0.01, 0.99]])
    assert calibration_error(probability, np.array([0, 0]), bins=10) == pytest.approx(abs(-0.005 - 0.99) / 2)
    # Both right: in two bins their gaps would count apart, 0.005 + 0.03.
    probability = np.array([[1.005, 0.0], [0.97, 0.03]])
    assert calibration_error(probability, np.array([0, 0]), bins=10) == pytest.approx(abs(-0.005 + 0.03) / 2)
    with pytest.raises(ValueError, match="probability: expected"):
        calibration_error(np.array([[1.02, 0.0]]), np.array([0]))


def test_a_class_is_confused_with_the_lowest_of_equals() -> None:
    prediction, label = np.array([3, 1, 2, 0, 3, 1]), np.zeros(6, dtype=np.int64)
    first = per_class(prediction, label, 4)[0]
    assert (first.confused_with, first.confused_count) == (1, 2)


def test_all_images_in_one_cluster_have_an_entropy_of_zero_without_a_sign() -> None:
    assert math.copysign(1, size_entropy(np.array([9, 0, 0]))) == 1


@pytest.mark.parametrize("clusters", [4, 5, 6, 7])
def test_top_5_is_a_metric_of_more_than_five_clusters(clusters: int) -> None:
    label = np.arange(clusters)
    found = evaluate_clusters(np.eye(clusters), label, [f"class {c}" for c in label], clusters=clusters).metrics
    assert ("top5_acc" in found) == (clusters > 5)


def test_one_known_label_is_enough_for_the_metrics_that_need_labels() -> None:
    found = evaluate_clusters(np.array([0, 1, 1]), np.array([-1, -1, 0]), ["ant", "bee"], clusters=2).metrics
    assert found["cluster_acc"] == 1


@pytest.mark.parametrize(("pairs", "stays"), [(MIN_PAIRS - 1, False), (MIN_PAIRS, True)])
def test_the_purity_of_just_enough_pairs_stays(pairs: int, stays: bool) -> None:
    label = np.full(100, -1)
    label[: pairs + 1] = 0
    neighbors = (np.arange(100) + 1)[:, None] % 100  # the neighbour of the last known image is unknown
    assert purities(neighbors, label) == ({1: 1.0} if stays else {})


def test_purity_is_given_for_the_usual_k_and_for_all_neighbours() -> None:
    neighbors = (np.arange(100)[:, None] + np.arange(1, 61)) % 100
    assert list(purities(neighbors, np.zeros(100, dtype=np.int64))) == [1, 2, 5, 10, 20, 50, 60]


def test_no_more_neighbours_vote_than_there_are_and_no_class_is_no_error() -> None:
    assert vote_size(10, 0) == 5
    assert vote_size(10, 1) == 5
    assert vote_size(0, 10) == 1


def test_metrics_of_features_in_half_precision_are_computed_in_float32() -> None:
    first, second = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    torch.testing.assert_close(uniformity(first), uniformity(first.float()), rtol=1e-6, atol=0)
    torch.testing.assert_close(alignment(first, second), alignment(first.float(), second.float()), rtol=1e-6, atol=0)


def test_labels_known_for_one_model_are_enough_for_the_usual_columns(capsys: pytest.CaptureFixture[str]) -> None:
    run = {"protocol": "split", "seed": 0, "images": 9}
    print_table({"a": {"cluster_acc": 0.5, "clusters_used": 3, **run}, "b": {"clusters_used": 2, **run}}, None)
    shown = capsys.readouterr().out
    assert "cluster_acc" in shown
    assert "clusters_used" not in shown
