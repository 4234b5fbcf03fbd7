"""Label propagation over the graph of mined neighbours.

It is that of Zhou et al. 2004 ("Learning with local and global consistency"), solved by conjugate gradients. The
weights of the graph, cosine^power of neighbours with W = A + Aᵀ, are those of Iscen et al. 2019 (arXiv:1904.04717).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg

COLUMNS = 16
"""Right-hand sides that are solved together, since a product with several columns is limited by the memory's speed:
13 MB a vector of the solver at 200,000 images (own choice)."""
SINGLE = 0.99
"""α up to which the solver uses float32, which is 2.5 times as fast: the condition number is at most (1 + α) / (1 - α),
199 there, and the scores' relative errors are some 1e-6 (on graphs of 50,000 images); float64 above."""
TOLERANCE = 1e-6
"""Norm of the residual at which the solver ends, as a share of that of the labels (own choice)."""
ITERATIONS = 10_000
"""Iterations at which the solver gives up; at α = 0.99 it needs 20 to 100."""


@dataclass(frozen=True)
class Graph:
    """A graph of images with symmetric weights."""

    weights: csr_array
    """W, float64 [N, N], symmetric and not negative; the diagonal is 0."""

    @property
    def degree(self) -> NDArray[np.float64]:
        """Sums of the rows of W, [N]; 0 for an image without neighbours."""
        return np.asarray(self.weights.sum(axis=1)).ravel()

    def normalized(self) -> csr_array:
        """Return S = D^-½ W D^-½, [N, N]; the rows of images without neighbours are 0."""
        degree = self.degree
        scale = diags_array(np.divide(1, np.sqrt(degree), where=degree > 0, out=np.zeros_like(degree)))
        return (scale @ self.weights @ scale).tocsr()

    def reached(self, index: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether a path connects each image with one of those in `index`, [N]."""
        _, part = connected_components(self.weights, directed=False)
        found: NDArray[np.bool_] = np.isin(part, part[index])
        return found


def neighbor_graph(neighbors: NDArray[Any], similarities: NDArray[Any], *, power: float) -> Graph:
    """Return the graph with W = A + Aᵀ and A_ij = max(cosine, 0)^power for the neighbours j of each image i.

    neighbors: [N, k], indices of images other than the image itself. similarities: [N, k], their cosines. So mutual
    neighbours have twice the weight of one-sided ones. Raises ValueError for other shapes and indices.
    """
    count, k = neighbors.shape
    if similarities.shape != neighbors.shape or not 0 <= neighbors.min() <= neighbors.max() < count:
        raise ValueError(
            f"neighbors: shape {neighbors.shape} found, expected indices below {count}, each with a cosine"
        )
    links = np.maximum(similarities, 0).astype(np.float64) ** power
    links[neighbors == np.arange(count)[:, None]] = 0
    small = 2 * count * k < np.iinfo(np.int32).max  # indices of 32 bits make products faster
    indices, pointers = (each.astype(np.int32 if small else np.int64) for each in (neighbors, np.arange(count + 1) * k))
    directed = csr_array((links.ravel(), indices.ravel(), pointers), shape=(count, count))
    weights = (directed + directed.T).tocsr()
    weights.eliminate_zeros()
    return Graph(weights)


@dataclass(frozen=True)
class Propagated:
    """Scores of all images, and what each part of the labels adds to those of the labelled images.

    The scores are linear in the labels, so that the scores without a part are the difference.
    """

    scores: NDArray[np.float32]
    """F = (I - αS)⁻¹ Y, [N, C]; 0 for images that no labelled image reaches."""
    parts: NDArray[np.float64]
    """[P, M, C], the scores of the labelled images that are in a part by the labels of each part alone; if no label is
    without a part, their sum is `scores[index]`."""
    masses: NDArray[np.float64]
    """[P, C], sums over all images of the scores by the labels of each part alone."""
    rest: NDArray[np.float64]
    """[C], those by the labels in no part."""

    @property
    def mass(self) -> NDArray[np.float64]:
        """Sums over all images of the scores, [C]."""
        total: NDArray[np.float64] = self.masses.sum(axis=0) + self.rest
        return total

    def probabilities(self) -> NDArray[np.float32]:
        """Return the probabilities of the classes for all images, [N, C]; see `class_probabilities`."""
        return class_probabilities(self.scores, self.mass)

    def totals(self) -> NDArray[np.float64]:
        """Return the sum of each image's scores divided by the classes' masses, [N], which its probabilities lack."""
        total: NDArray[np.float64] = np.maximum(self.scores, 0) @ (1 / self.mass)
        return total

    def left_out(self, part: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities [M, C] of the labelled images in a part by the labels of the other parts.

        part: [M], the part of each of them, as given to `propagate`.
        """
        result = np.empty(self.parts.shape[1:], dtype=np.float32)
        for left in range(len(self.parts)):
            rows = part == left
            others = np.arange(len(self.parts)) != left
            result[rows] = class_probabilities(self.parts[others][:, rows].sum(axis=0), self.masses[others].sum(axis=0))
        return result


def propagate(
    graph: Graph,
    index: NDArray[Any],
    label: NDArray[Any],
    *,
    classes: int,
    alpha: float,
    part: NDArray[Any] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Propagated:
    """Propagate labels over a graph: F = (I - αS)⁻¹ Y by conjugate gradients.

    index: [L], the labelled images. label: [L], their classes. part: [L], from 0; the part that each label belongs to,
    for cross-validation, -1 for a label that has none; None: all labels are one part. advance: called with the number
    of right-hand sides done, one for each class and part, since the last call. Besides the graph and the result the
    memory needed is that of some ten times N · COLUMNS numbers.
    Raises ArithmeticError if the solver gives up.
    """
    part = np.zeros(len(index), dtype=np.int64) if part is None else part
    count, parts = graph.weights.shape[0], int(part.max()) + 1
    precision = np.float32 if alpha <= SINGLE else np.float64
    normalized = graph.normalized().astype(precision)
    scores = np.zeros((count, classes), dtype=np.float32)
    inside = index[part >= 0]
    shares = np.zeros((parts, len(inside), classes))
    masses, rest = np.zeros((parts, classes)), np.zeros(classes)
    columns = np.unique(np.stack([label, part], axis=1), axis=0)
    for start in range(0, len(columns), COLUMNS):
        block = columns[start : start + COLUMNS]
        right = np.zeros((count, len(block)), dtype=precision)
        for column, (number, group) in enumerate(block):
            right[index[(label == number) & (part == group)], column] = 1
        # Columns of norm 1, since the solver compares the norm of all residuals together.
        norm = np.sqrt(right.sum(axis=0))
        solution = _solve(normalized, right / norm, alpha) * norm
        for column, (number, group) in enumerate(block):
            scores[:, number] += solution[:, column]
            mass = solution[:, column].sum(dtype=np.float64)
            if group < 0:
                rest[number] = mass
            else:
                shares[group, :, number], masses[group, number] = solution[inside, column], mass
        advance(len(block))
    return Propagated(scores, shares, masses, rest)


def _solve(normalized: csr_array, right: NDArray[Any], alpha: float) -> NDArray[Any]:
    """Return (I - αS)⁻¹ applied to the columns of `right` [N, K], solved as one system of N·K equations.

    S and `right` are of one type, in which the solver computes.
    """

    def multiply(x: NDArray[Any]) -> NDArray[Any]:
        columns = x.reshape(right.shape)
        product: NDArray[Any] = normalized @ columns
        product *= -right.dtype.type(alpha)
        product += columns
        return product.ravel()

    operator = LinearOperator((right.size, right.size), matvec=multiply, dtype=right.dtype)
    solution, steps = cg(operator, right.ravel(), rtol=TOLERANCE, maxiter=ITERATIONS)
    if steps:
        raise ArithmeticError(f"conjugate gradients: not solved after {steps} iterations at α = {alpha:g}")
    found: NDArray[Any] = solution.reshape(right.shape)
    return found


def class_probabilities(scores: NDArray[Any], mass: NDArray[Any]) -> NDArray[np.float32]:
    """Divide the scores [M, C] of each class by its mass [C], so that no class gains by its number of labels, and then
    each image's by their sum; the same probability for all classes if an image's scores are all 0.
    """
    share = np.maximum(scores, 0) / mass.astype(
        scores.dtype
    )  # the solver leaves values of the size of its tolerance below 0
    total = share.sum(axis=1, keepdims=True)
    uniform = np.full_like(share, 1 / share.shape[1])
    result: NDArray[np.float32] = np.divide(share, total, where=total > 0, out=uniform).astype(np.float32)
    return result
