"""How the cost of evaluation grows with images and classes: k-means, label permutations, metrics and votes.

CPU seconds of this process and its largest memory, beside what would be done without the rules that bound them. The
images are noise around gradients, the models' probabilities are simulated.
"""

import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from benchmarks import cost_terms
from benchmarks.report import Options, Table
from sslpipe.data.images import Images
from sslpipe.metrics.evaluation import EvaluateSettings, evaluate_classifier
from sslpipe.metrics.kmeans import KMeansSettings, kmeans
from sslpipe.metrics.mappings import k_best_mappings
from sslpipe.nets.inference import flat_pixels

EXACT = 10**15
"""No number of images and clusters is above it."""


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of all threads of the process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def megabytes(work: Callable[[], object]) -> float:
    """The largest memory that Python and numpy have taken at a time."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def images_of(count: int, side: int, seed: int) -> Images:
    """Images with few large differences and many small ones, as photographs have."""
    random = np.random.default_rng(seed)
    slopes = random.normal(size=(count, 3, 3, 1, 1)) * np.array([60, 40, 40])[:, None, None]
    steps = np.linspace(-1, 1, side)
    smooth = slopes[:, :, 0] + slopes[:, :, 1] * steps + slopes[:, :, 2] * steps[:, None]
    noise = random.normal(scale=10, size=(count, 3, side, side))
    return Images((128 + smooth + noise).clip(0, 255).astype(np.uint8), torch.device("cpu"))


def of_kmeans(images: int, clusters: int, side: int = 32) -> list[Any]:
    """k-means of all pixels, one restart, and as evaluate has it by default, with its own number of restarts."""
    train, scored = images_of(images, side, 0), images_of(500, side, 1)

    def run(restarts: int, limit: int) -> Any:
        settings = KMeansSettings(restarts=restarts, exact_up_to=limit)
        return kmeans(flat_pixels, train, scored, clusters=clusters, settings=settings, seed=0)

    limit = min(KMeansSettings().exact_up_to, images * clusters * 3 * side**2 - 1)
    once, default = seconds(lambda: run(1, EXACT)), seconds(lambda: run(10, limit))
    vectors = images * 3 * side**2 * 4 / 1e6
    memory = [megabytes(partial(run, 1, each)) / vectors for each in (EXACT, limit)]
    return [images, clusters, once, 10 * once, default, 10 * once / default, *memory]


def of_permutations(classes: int, k: int) -> list[Any]:
    """The k best mappings, and the time of as many assignments from scratch as Murty's algorithm has parts."""
    random = np.random.default_rng(0)
    score = random.dirichlet(np.full(classes, 0.05), classes) + 0.2 * np.eye(classes)
    one = seconds(lambda: linear_sum_assignment(score, maximize=True))
    # A part without its first rows has a third of the time on average, of O(C³).
    whole, found = k * classes * one / 3, seconds(lambda: k_best_mappings(score, k))
    return [classes, k, whole, found, whole / found, megabytes(lambda: k_best_mappings(score, k))]


def of_metrics(images: int, classes: int) -> list[Any]:
    """The metrics and tables of a classifier."""
    random = np.random.default_rng(0)
    probability = random.random((images, classes), dtype=np.float32)
    label, names = random.integers(0, classes, images), [str(each) for each in range(classes)]

    def work() -> object:
        return evaluate_classifier(probability, label, names)

    run = cost_terms.Run(images=images, scored=images, classes=classes, labels=0, values=1)
    return [images, classes, seconds(work), cost_terms.metrics_seconds(run), megabytes(work) * 1e6 / probability.nbytes]


def of_votes(labels: int, classes: int) -> list[Any]:
    """Forwards of labelled images for each classifier."""
    settings = EvaluateSettings()
    run = cost_terms.Run(images=labels, scored=10_000, classes=classes, labels=labels, values=1, settings=settings)
    return [labels, classes, 4 * labels, cost_terms.vote_forwards(run)]


def measure(options: Options) -> list[Table]:
    """Tables of each part of evaluation."""
    sizes = [(1000, 20)] if options.quick else [(2000, 50), (5000, 50), (10_000, 100)]
    columns = ("images", "clusters", "a restart, s", "ten, s", "by default, s", "times less")
    columns += ("memory, of all vectors", "by default")
    note = (
        "CPU seconds. Pixels of 32 × 32 images; ten restarts are ten times one. Memory in sizes of all float32 vectors."
    )
    tables = [Table("k-means of evaluate", columns, [of_kmeans(*each) for each in sizes], note)]
    ranks = [(50, 10)] if options.quick else [(100, 100), (200, 100), (500, 100), (1000, 100), (2000, 100)]
    columns = ("classes", "k", "each part from scratch, s", "sslpipe, s", "times less", "memory, MB")
    note = "CPU seconds; those from scratch are k · C thirds of one assignment."
    tables += [Table("Label permutations", columns, [of_permutations(*each) for each in ranks], note)]
    counts = [(1000, 20)] if options.quick else [(10_000, 100), (10_000, 1000), (50_000, 1000)]
    columns = ("images", "classes", "seconds", "predicted, s", "memory, of all probabilities")
    tables += [Table("Metrics of a classifier", columns, [of_metrics(*each) for each in counts], "CPU seconds.")]
    columns = ("labelled images", "classes", "forwards of all", "forwards")
    given = [(40, 10), (10_000, 100), (36_000, 1000)]
    return [
        *tables,
        Table("Votes of labelled images", columns, [of_votes(*each) for each in given], "Of a classifier."),
    ]
