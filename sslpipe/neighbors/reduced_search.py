"""Neighbour search in two passes, for many images of many dimensions: candidates by few dimensions, compared in all.

The few dimensions are the principal directions of the unit vectors, without centring, since these preserve inner
products best. Part of the queries is also searched exactly, so that what the candidates miss is known and not assumed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.neighbors import torch_search
from sslpipe.neighbors.unit_vectors import UnitVectors

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


@dataclass(frozen=True)
class Reduced:
    """The neighbours that were found, and how many of the exact ones are among them."""

    indices: NDArray[np.int64]
    similarities: NDArray[np.float32]
    """[Q, k] each, as `torch_search.search` returns them."""
    recall: float
    """Share of the exact neighbours of `compared` queries, 0 to 1."""
    compared: int


def search(
    queries: UnitVectors, bank: UnitVectors, *, k: int, exclude_self: bool, advance: Callable[[int], None]
) -> Reduced:
    """Return the k rows of `bank` with the highest inner product with each query among its candidates.

    The arguments are those of `torch_search.search`. Memory: N · (COMPONENTS + 6 · candidates) values.
    """
    half = _Half(advance)
    basis = principal_directions(bank, COMPONENTS)
    few = _mapped(bank, basis)
    few_queries = few if exclude_self else _mapped(queries, basis)
    count = min(candidates_for(k), len(bank) - exclude_self)
    candidates, _ = torch_search.search(few_queries, few, k=count, exclude_self=exclude_self, advance=half)
    del few, few_queries
    indices, similarities = compare(queries, bank, candidates, k=k, advance=half)
    drawn = np.unique(np.linspace(0, len(queries) - 1, min(COMPARED, len(queries))).astype(np.int64))
    recall = _recall(queries, bank, drawn, similarities, exclude_self=exclude_self)
    return Reduced(indices, similarities, recall, len(drawn))


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
    queries: UnitVectors,
    bank: UnitVectors,
    candidates: NDArray[np.int64],
    *,
    k: int,
    advance: Callable[[int], None],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
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


def _recall(
    queries: UnitVectors,
    bank: UnitVectors,
    drawn: NDArray[np.int64],
    similarities: NDArray[np.float32],
    *,
    exclude_self: bool,
) -> float:
    """Return the share of the exact neighbours of the drawn queries that were found; copies of one another count alike.

    similarities: [Q, k], of all queries, those that were found.
    """
    k = similarities.shape[1]
    few = queries.rows(torch.from_numpy(drawn).to(queries.device))
    indices, exact = torch_search.search(few, bank, k=k + exclude_self, exclude_self=False, advance=lambda _: None)
    if exclude_self:
        exact = np.where(indices == drawn[:, None], np.float32(-2), exact)
    least = -np.sort(-exact, axis=1)[:, k - 1 : k]  # of the k-th neighbour other than the image itself
    return float((similarities[drawn] >= least - ROUNDING).mean())


class _Half:
    """Reports the progress of one of two passes over the queries."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance, self.done = advance, 0

    def __call__(self, count: int) -> None:
        before, self.done = self.done, self.done + count
        self.advance(self.done // 2 - before // 2)
