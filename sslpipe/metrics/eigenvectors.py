"""Eigenvectors of the largest eigenvalues of a sparse symmetric matrix whose eigenvalues lie in [-1, 1]."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh

DENSE = 500
"""Up to so many rows all eigenvectors are computed, which takes a tenth of a second (own choice)."""
VECTORS = 80
"""Minimum number of Lanczos vectors: more of them need fewer restarts where many eigenvalues are close to the wanted
ones (own choice: at 200,000 images in long chains of neighbours 30 CPU seconds, with 20 vectors more than 200)."""
TOLERANCE = 1e-8
"""Tolerance of the residuals; eigenvalues of groups that hardly any link joins differ as little as 1e-5."""

MANY = 100
"""Above so many eigenvectors they are found together, in a filtered subspace: Lanczos iterations orthogonalise each
vector against all others, one at a time (own choice: 1,000 of 10,000 images take 26 CPU seconds instead of 163, and
k-means on them finds groups that are as good)."""
DEGREE = 20
"""Degree of the filter's polynomial (10 to 20 in the paper). Higher: fewer sweeps, each longer."""
FURTHER = 0.1
"""Vectors beyond those that are wanted, as a share of them: the last ones of a subspace are inexact."""
RESIDUAL = 1e-3
"""Residual that every vector has at most (own choice); that of most is below 1e-5 then."""
SWEEPS = 20
"""Largest number of times that the subspace is filtered; 4 are usual."""

Multiply = Callable[[NDArray[Any]], NDArray[Any]]


def largest_eigenvectors(
    matrix: csr_array, column: NDArray[np.float64], number: int, *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues [d], descending, and eigenvectors [N, d] of matrix + column · columnᵀ.

    matrix: [N, N], symmetric; column: [N]; the sum has its eigenvalues in [-1, 1]. number: d. The vectors' signs are
    arbitrary; otherwise the result depends on `seed` alone.

    Lanczos iterations start from one vector and find one vector of an eigenvalue that comes several times, as it does
    in a graph of several parts; all other ways find them all.
    """
    count = matrix.shape[0]
    in_parts = not column.any() and connected_components(matrix, directed=False)[0] > 1
    rng = np.random.default_rng(seed)
    if count <= max(DENSE, 4 * number):
        dense = matrix.toarray() + np.outer(column, column)
        values, vectors = eigh(dense, subset_by_index=(count - number, count - 1))
    elif number > MANY or in_parts:
        single, further = matrix.astype(np.float32), column.astype(np.float32)[:, None]
        values, vectors = _filtered(lambda x: single @ x + further * (further.T @ x), count, number, rng)
    else:

        def multiply(x: NDArray[np.float64]) -> NDArray[np.float64]:
            x = x.ravel()
            product: NDArray[np.float64] = matrix @ x + column * (column @ x)
            return product

        values, vectors = eigsh(
            LinearOperator((count, count), matvec=multiply, dtype=np.float64),
            k=number,
            which="LA",
            v0=rng.standard_normal(count),
            ncv=min(count - 1, max(VECTORS, 2 * number + 20)),
            tol=TOLERANCE,
            rng=rng,
        )
    order = np.argsort(-values, kind="stable")
    return values[order], vectors[:, order]


def _filtered(
    multiply: Multiply, count: int, number: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues [d] and eigenvectors [N, d] by filtered subspace iteration, in float32.

    A polynomial that is small on the unwanted eigenvalues is applied to all vectors at once, which are then made
    orthogonal, and turned to eigenvectors of the matrix within their span (Rayleigh and Ritz); and again, until their
    residuals are small (Zhou, Saad, Tiago and Chelikowsky 2006, J. Comput. Phys. 219, algorithm 4.1).
    """
    block = min(count, round((1 + FURTHER) * number) + 10)
    vectors = rng.standard_normal((count, block), dtype=np.float32)
    unwanted = 0.0
    for _ in range(SWEEPS):
        vectors, _ = np.linalg.qr(_chebyshev(multiply, vectors, unwanted))
        values, turn = eigh(vectors.T @ multiply(vectors))
        vectors = vectors @ turn[:, ::-1]
        values = values[::-1]
        unwanted = float(values[-1])
        wanted = vectors[:, :number]
        residual = np.linalg.norm(multiply(wanted) - wanted * values[:number], axis=0)
        if residual.max() <= RESIDUAL:
            break
    return values[:number].astype(np.float64), wanted.astype(np.float64)


def _chebyshev(multiply: Multiply, vectors: NDArray[np.float32], unwanted: float) -> NDArray[np.float32]:
    """Multiply vectors [N, d] by a polynomial of the matrix, small on [-1, unwanted] and 1 at eigenvalue 1."""
    centre, half = (unwanted - 1) / 2, max((unwanted + 1) / 2, 1e-3)
    first = scale = half / (1 - centre)
    before = vectors
    now: NDArray[np.float32] = (multiply(vectors) - centre * vectors) * np.float32(scale / half)
    for _ in range(DEGREE - 1):
        after = 1 / (2 / first - scale)
        following = (multiply(now) - centre * now) * np.float32(2 * after / half)
        before, now, scale = now, following - np.float32(scale * after) * before, after
    return now
