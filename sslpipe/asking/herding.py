"""Images that cover the others: MaxHerding (arXiv:2407.12212) and UHerding (arXiv:2412.20644) on a sparse kernel."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

SIGMA = 1.0
"""Width of the kernel of unit vectors (arXiv:2407.12212, section 4)."""

LEAST = 1e-5
"""Gain from which an image counts as adding something: copies of a labelled image add what float32 rounds."""

ROUNDING = 1e-9
"""How much a bound of a gain exceeds it, relatively and absolutely: more than sums in another order differ."""


@dataclass(frozen=True)
class Kernel:
    """Similarities k(x, y) = exp(−‖x − y‖² / σ²) of unit vectors, of each image with itself and its neighbours.

    Row i of the symmetric matrix has the images index[start[i]:start[i + 1]], ascending, with their similarities in
    `value`; all others count as 0.
    """

    start: NDArray[np.int64]
    """[N + 1]."""
    index: NDArray[np.int64]
    value: NDArray[np.float64]
    """From 0 to 1."""

    def __len__(self) -> int:
        return len(self.start) - 1

    def row(self, image: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the images with a similarity to `image`, and these similarities."""
        part = slice(self.start[image], self.start[image + 1])
        return self.index[part], self.value[part]


def sparse_kernel(neighbors: NDArray[np.int64], cosine: NDArray[np.floating], *, sigma: float = SIGMA) -> Kernel:
    """Return the kernel of neighbours [N, k] and their cosines [N, k]; with k = N − 1 it is the whole one.

    A pair counts if one is a neighbour of the other. Raises ValueError for a σ that is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma: {sigma} found, expected more than 0")
    count, k = neighbors.shape
    row = np.repeat(np.arange(count), k)
    # ‖x − y‖² = 2 − 2 cos for unit vectors; rounding gives cosines slightly above 1.
    value = np.exp((np.minimum(cosine, 1).astype(np.float64) - 1) * (2 / sigma**2)).ravel()
    one_way = csr_array(coo_array((value, (row, neighbors.ravel())), shape=(count, count)))
    both = csr_array(one_way.maximum(one_way.T))
    both.setdiag(1)
    both.sort_indices()
    return Kernel(both.indptr.astype(np.int64), both.indices.astype(np.int64), both.data.astype(np.float64))


def coverage(kernel: Kernel, labelled: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the largest similarity of each image to a labelled one, [N]; 0 for none."""
    covered = np.zeros(len(kernel))
    for image in labelled:
        near, value = kernel.row(int(image))
        covered[near] = np.maximum(covered[near], value)
    return covered


def herding(
    kernel: Kernel,
    labelled: Sequence[int] | NDArray[np.int64] = (),
    *,
    weight: NDArray[np.floating] | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Iterator[int]:
    """Yield images in the order in which they are worth a label, until none adds anything.

    The next image is the x with the largest Σ_i w_i max(0, k(x_i, x) − max over labelled l of k(x_i, x_l)), the lowest
    one among equals; it counts as labelled for those after it (MaxHerding, algorithm 1). So each beginning of the order
    is the order for a smaller budget.
    labelled: images that have labels. weight: w, [N], at least 0; None: 1 (MaxHerding); with an uncertainty this is
    UHerding. allowed: [N], the images that may be chosen; None: all without a label.
    """
    covered = coverage(kernel, labelled)
    w = np.ones(len(kernel)) if weight is None else np.asarray(weight, dtype=np.float64)
    free = np.ones(len(kernel), dtype=bool) if allowed is None else allowed.copy()
    free[np.asarray(labelled, dtype=np.int64)] = False
    # Gains only fall as images are covered (submodularity), so an old gain is an upper bound: lazy greedy.
    images = np.flatnonzero(free)
    waiting = list(zip((-_bounds(kernel, covered, w)[images]).tolist(), images.tolist(), strict=True))
    heapq.heapify(waiting)
    while waiting:
        old, image = waiting[0]
        gain = _gain(kernel, covered, w, image)
        if -gain != old:
            heapq.heapreplace(waiting, (-gain, image))
            continue
        heapq.heappop(waiting)
        if gain <= LEAST:
            return
        near, value = kernel.row(image)
        covered[near] = np.maximum(covered[near], value)
        yield image


def _bounds(kernel: Kernel, covered: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an upper bound of the gain of each image, [N]: the gain, and a little more, since sums differ by rounding.

    Each row has at least its own image, so that none is empty.
    """
    gain = weight[kernel.index] * np.maximum(kernel.value - covered[kernel.index], 0)
    total: NDArray[np.float64] = np.add.reduceat(gain, kernel.start[:-1]) * (1 + ROUNDING) + ROUNDING
    return total


def _gain(kernel: Kernel, covered: NDArray[np.float64], weight: NDArray[np.float64], image: int) -> float:
    near, value = kernel.row(image)
    return float((weight[near] * np.maximum(value - covered[near], 0)).sum())


def uncertainty(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 − the margin between the two most probable classes, [N], from 0 to 1; probability: [N, C], C ≥ 2."""
    two = np.partition(probability.astype(np.float64), -2, axis=1)[:, -2:]
    result: NDArray[np.float64] = 1 - (two[:, 1] - two[:, 0])
    return result
