"""The cost model against measurements: CPU seconds by ratios between sizes, bytes as such, all within a factor of two.

CPU seconds are the least of several runs, and one size gives the machine's speed for the others, so that neither
another machine nor a busy one matters.
"""

import hashlib
import subprocess
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from benchmarks import cost_terms
from benchmarks.cost_terms import Run
from sslpipe.data.images import Images
from sslpipe.metrics import kmeans as module
from sslpipe.metrics.evaluation import EvaluateSettings, evaluate_classifier
from sslpipe.metrics.kmeans import kmeans
from sslpipe.metrics.mappings import k_best_mappings
from sslpipe.nets.inference import flat_pixels

CPU = torch.device("cpu")


def run_of(**numbers) -> Run:
    return Run(**({"images": 1000, "scored": 1000, "classes": 10, "labels": 100, "values": 64} | numbers))


def cpu_seconds(work, rounds=5) -> float:
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def assert_predicted(measured, predicted) -> None:
    """The one in the middle gives the speed; the two others follow within a factor of two."""
    speed = measured[1] / predicted[1]
    ratios = [seconds / (speed * expected) for seconds, expected in zip(measured, predicted, strict=True)]
    assert all(0.5 < ratio < 2 for ratio in ratios), ratios


def test_metrics_of_a_model():
    random, measured, predicted = np.random.default_rng(0), [], []
    for scored, classes in [(4000, 100), (8000, 200), (20_000, 400)]:
        probability = random.random((scored, classes), dtype=np.float32)
        label, names = random.integers(0, classes, scored), [str(i) for i in range(classes)]
        measured.append(cpu_seconds(partial(evaluate_classifier, probability, label, names)))
        predicted.append(cost_terms.metrics_seconds(run_of(scored=scored, classes=classes)))
    assert_predicted(measured, predicted)


def test_label_permutations():
    random, measured, predicted = np.random.default_rng(0), [], []
    for classes in (100, 200, 400):
        score = 0.2 * random.random((classes, classes)) + 0.5 * np.eye(classes)
        measured.append(cpu_seconds(partial(k_best_mappings, score, 100), 2))
        predicted.append(cost_terms.permutation_seconds(run_of(classes=classes)))
    assert_predicted(measured, predicted)


def test_hashing():
    sizes = (1 << 22, 1 << 24, 1 << 26)
    measured = [cpu_seconds(partial(hashlib.md5, bytes(size))) for size in sizes]
    assert_predicted(measured, [cost_terms.dvc_seconds(size) for size in sizes])


def images_of(count: int, side: int) -> Images:
    random = np.random.default_rng(count)
    return Images(random.integers(0, 256, (count, 3, side, side)).astype(np.uint8), CPU)


SIZES = [(2000, 8, 20), (4000, 16, 10), (6000, 16, 20)]


@pytest.mark.parametrize("exact_up_to", [10**12, 1])
def test_kmeans(monkeypatch, exact_up_to):
    """Vectors, values, restarts and bytes are those of the model; the iterations are counted, for they vary."""
    fits, measured, predicted = [], [], []

    class Watched(KMeans):
        def fit(self, vectors, *args, **kwargs):
            start = time.process_time()
            super().fit(vectors, *args, **kwargs)
            fits.append((vectors.shape, self.n_init, self.n_iter_, time.process_time() - start))
            return self

    monkeypatch.setattr(module, "KMeans", Watched)
    settings = EvaluateSettings(restarts=1, exact_up_to=exact_up_to)
    for count, side, clusters in SIZES:
        train, scored = images_of(count, side), images_of(50, side)
        run = run_of(images=count, values=3 * side**2, classes=clusters, settings=settings)
        expected = cost_terms.kmeans_work(run)

        def work(train=train, scored=scored, clusters=clusters):
            kmeans(flat_pixels, train, scored, clusters=clusters, settings=settings, seed=0)

        least = min((work() or fits[-1] for _ in range(3)), key=lambda fit: fit[3])
        assert least[:2] == ((expected.fitted, expected.values), expected.restarts)
        measured.append(least[3])
        predicted.append(cost_terms.kmeans_seconds(run, least[2]))
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 0.5 < peak / cost_terms.evaluation_bytes(run) < 2
    if exact_up_to > 1:
        assert_predicted(measured, predicted)


def test_more_restarts_and_images_than_there_is_time_for_are_bounded():
    small, large, huge = (
        cost_terms.kmeans_work(run_of(images=n, classes=c, values=3072))
        for n, c in ((10_000, 10), (50_000, 1000), (1_281_167, 1000))
    )
    assert (small.fitted, small.values, small.restarts, small.mini_batches) == (10_000, 3072, 10, False)
    assert (large.fitted, large.values, large.restarts, large.mini_batches) == (50_000, 64, 1, False)
    assert (huge.fitted, huge.values, huge.mini_batches) == (1_281_167, 64, True)
    assert huge.bytes < module.MAX_BYTES


def test_votes():
    assert cost_terms.vote_forwards(run_of(labels=40, classes=10)) == 160
    assert cost_terms.vote_forwards(run_of(labels=36_000, classes=1000)) == 40_000
    assert cost_terms.vote_forwards(run_of(settings=EvaluateSettings(permutations=0))) == 0


def test_probabilities_are_the_memory_of_evaluation():
    random = np.random.default_rng(0)
    for scored, classes in [(2000, 100), (4000, 200), (8000, 300)]:
        tracemalloc.start()
        probability = random.random((scored, classes), dtype=np.float32)
        evaluate_classifier(probability, random.integers(0, classes, scored), [str(i) for i in range(classes)])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        run = run_of(images=10, scored=scored, classes=classes)
        assert 0.5 < peak / cost_terms.evaluation_bytes(run) < 2


def test_dvc_copies_an_output_once(tmp_path: Path, warm_bin: Path):
    def dvc(*arguments: str) -> None:
        subprocess.run([warm_bin / "dvc", *arguments], cwd=tmp_path, check=True, capture_output=True)

    dvc("init", "--no-scm")
    dvc("config", "cache.type", "copy")
    sizes = (100_000, 1_000_000, 3_000_000)
    for size in sizes:
        (tmp_path / f"{size}.npy").write_bytes(np.random.default_rng(size).bytes(size))
    dvc("add", *(f"{size}.npy" for size in sizes))
    copies = sorted(each.stat().st_size for each in (tmp_path / ".dvc/cache/files").rglob("*") if each.is_file())
    assert copies == [cost_terms.dvc_bytes(size)[1] for size in sizes]
