"""Principal components of L2-normalised features, by one pass over the rows in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

Features = NDArray[Any] | Tensor
"""Rows [N, D] of any real type, in memory or memory-mapped."""
CHUNK = 4096
"""Rows that are read at a time: 42 MB of float32 for 2,560 dimensions (own choice)."""
NO_VARIANCE = 1e-7
"""Share of the largest eigenvalue below which a component is only rounding (own choice; float16 has 11 bits, float32
24), and is left out."""


@dataclass(frozen=True)
class Pca:
    """The principal components of L2-normalised rows, in the order of their variance."""

    mean: NDArray[np.float32]
    """[D], of the normalised rows."""
    basis: NDArray[np.float32]
    """[D, C], orthonormal columns; the entry of each with the largest absolute value is positive."""
    eigenvalues: NDArray[np.float64]
    """[C], the variance of each component, descending."""

    @property
    def whitening(self) -> NDArray[np.float32]:
        """The basis divided by the components' standard deviations, [D, C]; a component without variance becomes 0."""
        scale = np.divide(1, np.sqrt(self.eigenvalues), where=self.eigenvalues > 0, out=np.zeros_like(self.eigenvalues))
        return (self.basis * scale).astype(np.float32)

    def first(self, components: int) -> "Pca":
        """Return the first components alone; all of them if there are no more."""
        return Pca(self.mean, self.basis[:, :components], self.eigenvalues[:components])

    def transform(self, rows: Features, *, whiten: bool = False) -> NDArray[np.float32]:
        """Return the components [M, C] of rows [M, D], which are L2-normalised first.

        whiten: whether each component is divided by its standard deviation. Only the result and one chunk of rows are
        in memory.
        """
        matrix = self.whitening if whiten else self.basis
        result = np.empty((len(rows), matrix.shape[1]), dtype=np.float32)
        for start, unit in unit_chunks(rows):
            result[start : start + len(unit)] = (unit - self.mean) @ matrix
        return result


def fit_pca(rows: Features, components: int) -> Pca:
    """Return the principal components of rows [N, D], which are L2-normalised first and changed in no other way.

    components: their number; fewer are returned if the rows have fewer dimensions, or less variance (NO_VARIANCE), but
    at least one. They are exact: eigenvectors of the covariance [D, D], which is computed in one pass, or, for fewer
    rows than dimensions (at most CHUNK), of the products of the rows [N, N], which takes a fraction of the time.
    Raises ValueError for fewer than two rows, and for values that are not finite.
    """
    count, dimension = rows.shape
    if count < 2:
        raise ValueError(f"rows: {count} found, expected at least 2")
    few = count < dimension and count <= CHUNK
    mean, values, vectors = (_of_products if few else _of_covariance)(rows, components)
    kept = max(1, int((values > NO_VARIANCE * values[0]).sum()))
    values, vectors = values[:kept].copy(), vectors[:, :kept]
    return Pca(mean.astype(np.float32), oriented(vectors).astype(np.float32), values)


def oriented(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return eigenvectors [D, C], each with the sign that makes its entry with the largest absolute value positive."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return vectors * np.where(largest < 0, -1, 1)


def leading_eigenvectors(
    covariance: NDArray[np.float64], components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues [C] of a covariance [D, D], descending, and their eigenvectors [D, C].

    components: their number, at most; a negative eigenvalue, which is rounding, becomes 0.
    """
    dimension = len(covariance)
    values, vectors = eigh(covariance, subset_by_index=(dimension - min(components, dimension), dimension - 1))
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


Components = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Mean [D], eigenvalues [C], descending, and eigenvectors [D, C]."""


def _of_covariance(rows: Features, components: int) -> Components:
    """Return the components of rows [N, D] from their covariance [D, D]."""
    count, dimension = rows.shape
    shift: NDArray[np.float32] | None = None
    total = np.zeros(dimension)
    products = np.zeros((dimension, dimension))
    for _, unit in unit_chunks(rows):
        if shift is None:  # near the mean, so that little is lost when the mean's own product is subtracted
            shift = unit.mean(axis=0)
        centred = unit - shift
        total += centred.sum(axis=0, dtype=np.float64)
        products += centred.T @ centred
    assert shift is not None
    mean = total / count
    covariance = (products - count * np.outer(mean, mean)) / (count - 1)
    return shift + mean, *leading_eigenvectors(covariance, components)


def _of_products(rows: Features, components: int) -> Components:
    """Return the components of N rows [N, D], N < D, from the products [N, N] of the centred rows.

    With X = U S Vᵀ centred, X Xᵀ = U S² Uᵀ, so the eigenvectors of the covariance are V = Xᵀ U / S.
    """
    ((_, unit),) = unit_chunks(rows)
    mean = unit.mean(axis=0, dtype=np.float64)
    centred = unit - mean
    count = len(unit)
    values, vectors = eigh(centred @ centred.T, subset_by_index=(count - min(components, count - 1), count - 1))
    values = np.maximum(values[::-1], 0)
    if not values[0]:  # all rows are the same, and any direction will do
        return mean, values[:1], np.eye(centred.shape[1], 1)
    # Where this is not S, there is no variance, and the component is left out.
    scale = np.sqrt(np.maximum(values, NO_VARIANCE * values[0]))
    return mean, values / (count - 1), centred.T @ vectors[:, ::-1] / scale


def unit_chunks(rows: Features) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the index of the first row and the L2-normalised rows, float32, of each chunk; a zero row remains zero.

    Raises ValueError for values that are not finite.
    """
    for start in range(0, len(rows), CHUNK):
        few = rows[start : start + CHUNK]
        chunk = few.detach().float().cpu().numpy() if isinstance(few, Tensor) else np.asarray(few, dtype=np.float32)
        yield start, unit_rows(chunk)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows [M, D] divided by their norms; a zero row remains zero. Raises ValueError if any is not finite."""
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(norm).all():
        raise ValueError(f"rows: NaN, infinity or overflow in {int((~np.isfinite(norm)).sum())} of {len(rows)}")
    return np.divide(rows, np.where(norm > 0, norm, 1), dtype=np.float32)
