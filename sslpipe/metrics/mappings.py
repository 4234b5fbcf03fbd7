"""One-to-one mappings of clusters to classes, best first."""

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

UNMAPPED = -1
"""Entry of a mapping for a cluster without a class; images in such a cluster count as wrong."""


def k_best_mappings(score: NDArray[Any], k: int) -> list[tuple[float, NDArray[np.int64]]]:
    """Return the k one-to-one mappings with the highest sum of scores, best first (Murty 1968, Operations Research 16).

    score: [clusters, classes], finite. Every cluster has a class, or with more clusters than classes every class has a
    cluster. Returns pairs (sum, mapping [clusters]), fewer than k if fewer mappings exist.
    """
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 2 or not score.size or not np.isfinite(score).all():
        raise ValueError(f"score: expected a finite [clusters, classes] matrix, shape {score.shape} found")
    if k < 1:
        raise ValueError(f"k: {k} found, expected at least 1")
    if len(score) > score.shape[1]:
        return [(total, _inverse(mapping, len(score))) for total, mapping in k_best_mappings(score.T, k)]

    best: list[tuple[float, NDArray[np.int64]]] = []
    # A set has all mappings that equal its best one before row `fixed` and avoid the banned columns in that row.
    sets = [_best_of_set(score, (), frozenset())]
    while sets:
        negative_total, columns, fixed, banned = heapq.heappop(sets)
        best.append((-negative_total, np.array(columns, dtype=np.int64)))
        if len(best) == k:
            break
        # The other mappings of the set, divided by the first row in which they differ from its best one.
        for row in range(fixed, len(score)):
            avoided = {columns[row]} | (banned if row == fixed else set())
            if len(avoided) + row < score.shape[1]:
                heapq.heappush(sets, _best_of_set(score, columns[:row], frozenset(avoided)))
    return best


def _best_of_set(
    score: NDArray[np.float64], prefix: tuple[int, ...], banned: frozenset[int]
) -> tuple[float, tuple[int, ...], int, frozenset[int]]:
    """Return the best mapping that begins with `prefix` and avoids the columns `banned` in the next row.

    The result is (-sum, columns, length of prefix, banned), an entry of the heap.
    """
    rest = score[len(prefix) :].copy()
    rest[:, list(prefix)] = -np.inf
    rest[0, list(banned)] = -np.inf
    columns = (*prefix, *(int(column) for column in linear_sum_assignment(rest, maximize=True)[1]))
    return -float(score[np.arange(len(score)), columns].sum()), columns, len(prefix), banned


def _inverse(mapping: NDArray[np.int64], clusters: int) -> NDArray[np.int64]:
    inverse = np.full(clusters, UNMAPPED, dtype=np.int64)
    inverse[mapping] = np.arange(len(mapping))
    return inverse
