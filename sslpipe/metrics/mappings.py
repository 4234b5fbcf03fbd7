"""One-to-one mappings of clusters to classes, best first."""

import heapq
from bisect import insort
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

UNMAPPED = -1
"""Entry of a mapping for a cluster without a class; images in such a cluster count as wrong."""
ROWS = 64
"""Rows whose reduced costs are in memory at a time (own choice: half a megabyte at 1,000 classes)."""


def k_best_mappings(score: NDArray[Any], k: int) -> list[tuple[float, NDArray[np.int64]]]:
    """Return the k one-to-one mappings with the highest sum of scores, best first (Murty 1968, Operations Research 16).

    score: [clusters, classes], finite. Every cluster has a class, or with more clusters than classes every class has a
    cluster. Returns pairs (sum, mapping [clusters]), fewer than k if fewer mappings exist; those with equal sums are in
    any order.
    A part of the mappings is solved only if a bound on its best sum makes it a candidate, by one shortest augmenting
    path from the solution and the dual variables of the whole that was divided (Miller, Stone and Cox 1997, IEEE
    Transactions on Aerospace and Electronic Systems 33(3)). The time is O(k · C²) for the bounds and O(C²) for each
    part that is solved, C being the larger of both numbers, after one assignment from scratch.
    """
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 2 or not score.size or not np.isfinite(score).all():
        raise ValueError(f"score: expected a finite [clusters, classes] matrix, shape {score.shape} found")
    if k < 1:
        raise ValueError(f"k: {k} found, expected at least 1")
    if len(score) > score.shape[1]:
        return [(total, _inverse(mapping, len(score))) for total, mapping in k_best_mappings(score.T, k)]

    search = _Search(score)
    best: list[tuple[float, NDArray[np.int64]]] = []
    first, number = search.first(k), count()
    # (negative sum or its bound, whether it is only a bound, number, part, row): of equal ones solved parts come first.
    parts: list[tuple[float, bool, int, _Part, int]] = [(-search.total(first), False, next(number), first, -1)]
    known = [-search.total(first)]  # the k lowest negative sums so far: what cannot be among them is given up
    while parts and len(best) < k:
        negative_total, is_bound, _, part, row = heapq.heappop(parts)
        if is_bound:
            limit = known[k - 1] if len(known) >= k else np.inf
            if (solved := search.without(part, row, limit + search.total(part))) is not None:
                total = -search.total(solved)
                insort(known, total)
                heapq.heappush(parts, (total, False, next(number), solved, -1))
            continue
        best.append((-negative_total, part.columns[: len(score)].copy()))
        if len(best) == k:
            break
        # The other mappings of the part, divided by the first row in which they differ from its best one.
        for place, loss in enumerate(search.losses(part), start=part.fixed):
            if np.isfinite(loss):
                heapq.heappush(parts, (negative_total + float(loss), True, next(number), part, place))
    return sorted(
        best, key=lambda pair: -pair[0]
    )  # of sums that differ by rounding, a bound may have hidden the higher


@dataclass(frozen=True)
class _Part:
    """A set of mappings and its best one: all that equal it before row `fixed` and avoid `banned` columns there."""

    columns: NDArray[np.int64]
    """[C], the column of each row in the best mapping."""
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    """[C] each, dual variables: cost[i, j] - u[i] - v[j] is at least 0 where the set allows it, 0 in the mapping."""
    fixed: int
    banned: NDArray[np.int64]


class _Search:
    """The square assignment problem, minimised: rows without costs stand for clusters that are not there."""

    def __init__(self, score: NDArray[np.float64]) -> None:
        self.score = score
        self.rows, size = score.shape
        self.cost = np.zeros((size, size))
        self.cost[: self.rows] = -score
        self.rounding = 1e-13 * size * float(np.abs(score).max())

    def total(self, part: _Part) -> float:
        """Return the sum of scores of the part's best mapping."""
        return float(self.score[np.arange(self.rows), part.columns[: self.rows]].sum())

    def first(self, k: int) -> _Part:
        """Return all mappings as a part; its dual variables are 0 where k = 1, which needs none.

        scipy gives no dual variables. They are the shortest distances between columns in the graph in which an edge is
        what a row loses by another column; no cycle is negative, since the mapping is the best (Bellman and Ford).
        """
        columns = linear_sum_assignment(self.cost)[1].astype(np.int64)
        size = len(columns)
        own = self.cost[np.arange(size), columns]
        distance = np.zeros(size)
        if k > 1:
            loss = self.cost[:, columns]
            loss -= own[:, None]
            for _ in range(size):
                shorter = np.minimum(distance, (loss + distance[:, None]).min(axis=0))
                settled = float((distance - shorter).max()) <= self.rounding / size
                distance = shorter
                if settled:
                    break
        v = np.empty(size)
        v[columns] = distance
        return _Part(columns, own - distance, v, 0, np.empty(0, dtype=np.int64))

    def losses(self, part: _Part) -> NDArray[np.float64]:
        """Return the least that each row from `part.fixed` on loses without its column; infinite: none is left, [rows].

        The row needs another column, and the column another row, each at its reduced cost at least.
        """
        columns, size = part.columns[part.fixed :], len(part.columns) - part.fixed
        places = np.arange(size)
        of_row, of_column = np.full(size, np.inf), np.full(size, np.inf)
        for start in range(0, size, ROWS):
            rows = places[start : start + ROWS]
            reduced = self.cost[part.fixed + rows][:, columns]
            reduced -= part.u[part.fixed + rows, None]
            reduced -= part.v[columns]
            if not start:
                reduced[0, np.isin(columns, part.banned)] = np.inf
            of_row[rows] = np.where(places > rows[:, None], reduced, np.inf).min(axis=1)
            below = np.where(places < rows[:, None], reduced, np.inf).min(axis=0)
            np.minimum(of_column, below, out=of_column)
        least: NDArray[np.float64] = np.maximum(of_row + of_column, 0)
        return least[: self.rows - part.fixed]

    def without(self, part: _Part, row: int, limit: float) -> _Part | None:
        """Return the mappings of the part that equal its best one before `row` and have another column there.

        The best of them is found by the shortest augmenting path from the row to the column that it has lost. None if
        its sum is lower by more than `limit`.
        """
        lost = int(part.columns[row])
        banned = np.append(part.banned if row == part.fixed else part.banned[:0], lost)
        columns, u, v = part.columns.copy(), part.u.copy(), part.v.copy()
        row_of = np.empty_like(columns)
        row_of[columns] = np.arange(len(columns))
        distance = self.cost[row] - u[row] - v
        distance[banned] = np.inf
        distance[columns[:row]] = -np.inf  # never improved on, and never reached
        open_distance = np.where(distance == -np.inf, np.inf, np.maximum(distance, 0))
        np.copyto(distance, open_distance, where=distance > -np.inf)
        via, reached = np.full(len(columns), row), list[int]()
        limit += self.rounding
        while (column := int(open_distance.argmin())) != lost:
            length = open_distance[column]
            if length > limit:
                return None
            open_distance[column] = np.inf
            reached.append(column)
            through = int(row_of[column])
            longer = np.maximum(length + (self.cost[through] - u[through] - v), length)
            better = np.flatnonzero(longer < distance)
            distance[better] = open_distance[better] = longer[better]
            via[better] = through
        if distance[lost] > limit:
            return None
        gain = distance[lost] - distance[reached]
        v[reached] -= gain
        u[row_of[reached]] += gain
        u[row] += distance[lost]
        column = lost
        while True:
            through = int(via[column])
            columns[through], column = column, int(columns[through])
            if through == row:
                return _Part(columns, u, v, row, banned)


def _inverse(mapping: NDArray[np.int64], clusters: int) -> NDArray[np.int64]:
    inverse = np.full(clusters, UNMAPPED, dtype=np.int64)
    inverse[mapping] = np.arange(len(mapping))
    return inverse
