"""One-to-one assignments: clusters to classes, the k best of these mappings, and targets to the images of a batch.

Beside scipy's linear_sum_assignment on a matrix that is there already, and beside what one would write with it: the
table of clusters and classes by scikit-learn; Murty's algorithm with a whole matrix for each subproblem. Clusters are
simulated, 60 % of the images in the cluster of their class, the others in any. The CPU does all of it.
"""

import heapq
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.metrics.cluster import contingency_matrix

from benchmarks.measure import interleave
from benchmarks.report import Options, Table
from sslpipe.metrics.clustering import cluster_accuracy, contingency
from sslpipe.metrics.mappings import k_best_mappings
from sslpipe.objectives.alternation import assign_targets


def clusters_of(classes: int, images: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Prediction and label, [N] each."""
    random = np.random.default_rng(0)
    label = random.integers(classes, size=images)
    moved, anywhere = random.permutation(classes)[label], random.integers(classes, size=images)
    return np.where(random.random(images) < 0.6, moved, anywhere), label


def hungarian(score: NDArray[Any]) -> float:
    """The greatest sum of a one-to-one mapping."""
    return float(score[linear_sum_assignment(score, maximize=True)].sum())


def murty(score: NDArray[Any], k: int) -> list[float]:
    """Sums of the k best mappings, best first (Murty 1968), score: [clusters, clusters]."""
    queue, found, number = [], [], count()

    def add(matrix: NDArray[Any]) -> None:
        with suppress(ValueError):  # no mapping is left
            columns = linear_sum_assignment(matrix, maximize=True)[1]
            heapq.heappush(queue, (-matrix[np.arange(len(matrix)), columns].sum(), next(number), columns, matrix))

    add(score.astype(np.float64))
    while queue and len(found) < k:
        negative, _, columns, matrix = heapq.heappop(queue)
        found.append(-negative)
        for row, column in enumerate(columns):
            without = matrix.copy()
            without[row, column] = -np.inf
            add(without)
            kept, matrix = matrix[row, column], matrix.copy()
            matrix[row], matrix[:, column] = -np.inf, -np.inf
            matrix[row, column] = kept
    return found


def accuracy(classes: int, images: int, rounds: int) -> tuple[Any, ...]:
    prediction, label = clusters_of(classes, images)
    counts = contingency(prediction, label)
    work = {
        "sslpipe": lambda: cluster_accuracy(prediction, label)[0] * images,
        "plain": lambda: hungarian(contingency_matrix(label, prediction)),
        "alone": lambda: hungarian(counts),
    }
    assert len({round(each()) for each in work.values()}) == 1
    timed = interleave(work, rounds=rounds)
    return (classes, images, *(timed.time(name) for name in work), timed.ratio("plain", "sslpipe"))


def best_mappings(clusters: int, k: int, rounds: int) -> tuple[Any, ...]:
    score = contingency(*clusters_of(clusters, 100 * clusters))
    found = k_best_mappings(score, k)
    assert len({tuple(mapping) for _, mapping in found}) == k
    assert all(score[np.arange(clusters), mapping].sum() == total for total, mapping in found)
    work = {"sslpipe": lambda: k_best_mappings(score, k), "alone": lambda: hungarian(score)}
    if clusters**2 * k <= 10**5:
        assert [total for total, _ in found] == murty(score, k)
        timed = interleave({**work, "plain": lambda: murty(score, k)}, rounds=rounds)
        others = (timed.time("plain"), timed.time("alone"), timed.ratio("plain", "sslpipe"))
    else:
        assert found[0][0] == hungarian(score)
        timed = interleave(work, rounds=2, warmup=0)
        others = ("", timed.time("alone"), "")
    return (clusters, k, timed.time("sslpipe"), *others)


def targets(batch: int, rounds: int) -> tuple[Any, ...]:
    random = torch.Generator().manual_seed(0)
    outputs = torch.nn.functional.normalize(torch.randn(batch, 10, generator=random), dim=1)
    wanted = torch.randint(10, (batch,), generator=random)
    points, units = outputs.double().numpy(), np.eye(10)[wanted.numpy()]
    work = {
        "sslpipe": lambda: assign_targets(outputs, wanted),
        "plain": lambda: linear_sum_assignment(cdist(units, points, "sqeuclidean"))[1],
    }
    cost, least = (np.square(units - points[np.asarray(each())]).sum() for each in work.values())
    assert abs(cost - least) < 1e-5 * least
    timed = interleave(work, rounds=rounds)
    return (batch, timed.time("sslpipe"), timed.time("plain"), timed.ratio("plain", "sslpipe"))


def measure(options: Options) -> list[Table]:
    rounds, faster = (2 if options.quick else 9), "times as fast"
    sizes = [(10, 5000), (100, 5000)] if options.quick else [(c, n) for c in (10, 100, 1000) for n in (50_000, 10**6)]
    ranks = [(10, 10), (30, 5)] if options.quick else [(10, 10), (10, 100), (100, 10), (100, 100), (1000, 1), (1000, 2)]
    columns = ("classes", "images", "sslpipe, s", "scikit-learn and scipy, s", "scipy without the table, s", faster)
    tables = [Table("Accuracy of clusters", columns, [accuracy(*size, rounds) for size in sizes], "Equal sums.")]
    rows = [best_mappings(*rank, rounds) for rank in ranks]
    columns = ("clusters", "k", "sslpipe, s", "plain Murty, s", "scipy, the best alone, s", faster)
    tables += [Table("The k best mappings", columns, rows, "Equal sums; plain Murty is left out where it takes long.")]
    columns = ("batch", "sslpipe, s", "cdist and scipy, s", faster)
    rows = [targets(batch, rounds) for batch in ([128] if options.quick else [256, 512, 1024])]
    return [*tables, Table("Targets to the images of a batch", columns, rows, "10 targets; equal sums of distances.")]
