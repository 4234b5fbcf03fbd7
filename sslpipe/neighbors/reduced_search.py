"""Neighbour search in two passes, for many images of many dimensions: candidates by few dimensions, compared in all.

The few dimensions are the principal directions of the unit vectors, without centring, since these preserve inner
products best. Part of the queries is also searched exactly, so that what the candidates miss is known and not assumed.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.neighbors import torch_search
from sslpipe.neighbors.saved_search import NOT_SAVED, SavedSearch
from sslpipe.neighbors.unit_vectors import UnitVectors

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Indices and similarities."""
COMPONENTS = 256
"""Principal directions in which candidates are searched. Own choice: of the 20 nearest of 7,200 photographs by two
networks joined (2,560 dimensions), 112 candidates in 128, 256 and 384 directions contain 99.92, 100.00 and 100.00 %."""
FITTED = 50_000
"""Vectors, at equal distances in their order, that the directions are found from (own choice)."""
COMPARED = 500
"""Queries, at equal distances, that are also searched exactly: 10,000 neighbours at k = 20 (own choice)."""
RECALL = 0.999
"""Least share of their exact neighbours that must be found (own choice)."""
ROUNDING = 1e-6
"""Difference of cosines that two ways to sum them up may cause."""
ROWS = 4096
"""Vectors that are reduced at a time."""
BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Device type → values of candidates that are compared at a time, at least those of one query: 1 MB of float32, which a
CPU's caches hold (with 4 MB it takes 1.6 times as long), and 256 MB."""


def candidates_for(k: int) -> int:
    """Return the number of candidates for k neighbours."""
    return 4 * k + 32


class ReducedSearch:
    """Queries and a bank in fewer dimensions.

    Memory: N · (COMPONENTS + 6 · candidates) values while `search` runs.
    """

    def __init__(self, queries: UnitVectors, bank: UnitVectors, *, k: int, exclude_self: bool) -> None:
        """The arguments are those of `torch_search.search`."""
        self.queries, self.bank, self.k, self.exclude_self = queries, bank, k, exclude_self
        basis = principal_directions(bank, COMPONENTS)
        self._few = _mapped(bank, basis)
        self._few_queries = self._few if exclude_self else _mapped(queries, basis)
        self._count = min(candidates_for(k), len(bank) - exclude_self)
        self.compared = min(COMPARED, len(queries))
        """Number of queries of `recall`."""

    def recall(self) -> float:
        """Return the share of the exact neighbours of some queries that are among their candidates, 0 to 1.

        Copies of one another count alike.
        """
        drawn = np.linspace(0, len(self.queries) - 1, self.compared).astype(np.int64)
        index = torch.from_numpy(drawn).to(self.queries.device)
        own, more = self.queries.rows(index), int(self.exclude_self)
        near = torch_search.search(
            self._few_queries[index], self._few, k=self._count + more, exclude_self=False, advance=_ignore
        )
        exact = torch_search.search(own, self.bank, k=self.k + more, exclude_self=False, advance=_ignore)
        if self.exclude_self:
            near, exact = _without(drawn, *near), _without(drawn, *exact)
        found = compare(own, self.bank, near[0], k=self.k, advance=_ignore)
        return float((found[1] >= exact[1][:, -1:] - ROUNDING).mean())

    def search(self, advance: Callable[[int], None], saved: SavedSearch = NOT_SAVED) -> Found:
        """Return the k rows of the bank with the highest inner product with each query among its candidates.

        The result is that of `torch_search.search`. saved: where the search of the candidates is saved.
        """
        half = _Half(advance)
        candidates, _ = torch_search.search(
            self._few_queries, self._few, k=self._count, exclude_self=self.exclude_self, advance=half, saved=saved
        )
        return compare(self.queries, self.bank, candidates, k=self.k, advance=half)


def principal_directions(vectors: UnitVectors, components: int) -> Tensor:
    """Return the first eigenvectors of the second moments of at most FITTED of the vectors, [D, components]."""
    step = -(-len(vectors) // FITTED)
    moments = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64, device=vectors.device)
    with torch_search.full_precision():
        for start in range(0, len(vectors), ROWS * step):
            part = vectors[slice(start, start + ROWS * step, step)]
            moments += part.T @ part
    directions: Tensor = torch.linalg.eigh(moments).eigenvectors[:, -components:].float()
    return directions


def _mapped(vectors: UnitVectors, basis: Tensor) -> Tensor:
    """Return the inner products of vectors with the columns of a basis, [N, C]."""
    result = torch.empty(len(vectors), basis.shape[1], device=vectors.device)
    with torch_search.full_precision():
        for start in range(0, len(vectors), ROWS):
            result[start : start + ROWS] = vectors[start : start + ROWS] @ basis
    return result


def compare(
    queries: torch_search.Vectors,
    bank: UnitVectors,
    candidates: NDArray[np.int64],
    *,
    k: int,
    advance: Callable[[int], None],
) -> Found:
    """Return the k of each query's candidates with the highest inner product, the lower index first if equal.

    candidates: [Q, M], rows of `bank`.
    """
    candidates = np.sort(candidates, axis=1)
    indices = np.empty((len(candidates), k), dtype=np.int64)
    similarities = np.empty((len(candidates), k), dtype=np.float32)
    block = max(1, BLOCK[bank.device.type] // (candidates.shape[1] * bank.shape[1]))
    with torch_search.full_precision():
        for start in range(0, len(candidates), block):
            rows = slice(start, start + block)
            some = torch.from_numpy(candidates[rows]).to(bank.device)
            product = bank.products(some, queries[rows]).clamp_(-1, 1)
            best, place = product.sort(dim=1, descending=True, stable=True)
            indices[rows] = some.gather(1, place[:, :k]).cpu().numpy()
            similarities[rows] = best[:, :k].cpu().numpy()
            advance(len(some))
    return indices, similarities


def _without(own: NDArray[np.int64], indices: NDArray[np.int64], similarities: NDArray[np.float32]) -> Found:
    """Return the neighbours of queries [Q, k] other than the queries themselves, [Q, k - 1].

    own: [Q], the index of each query. indices, similarities: [Q, k + 1]. A query that is not among its own neighbours,
    as it has many copies, loses the last one.
    """
    order = np.argsort(indices == own[:, None], axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(similarities, order, axis=1)


def _ignore(count: int) -> None:
    """Report no progress."""


class _Half:
    """Reports the progress of one of two passes over the queries."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance, self.done = advance, 0

    def __call__(self, count: int) -> None:
        before, self.done = self.done, self.done + count
        self.advance(self.done // 2 - before // 2)
