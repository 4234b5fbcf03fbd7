"""Spectral clustering of the graph of mined neighbours (Ng, Jordan and Weiss 2001)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans

from sslpipe.io.settings import Count, Fraction, NonNegative
from sslpipe.metrics.eigenvectors import largest_eigenvectors
from sslpipe.metrics.restarts import RESTARTS_WORK, announced_restarts


@dataclass(frozen=True, kw_only=True)
class SpectralSettings:
    """Settings of spectral clustering."""

    restarts: Count = 10
    """Number of runs of k-means on the eigenvectors, from different initialisations; the best is kept. More: a lower
    inertia, slower."""
    all_restarts_up_to: Count = RESTARTS_WORK
    """Images × clusters² × restarts up to which all restarts are run, such as 10 of 50,000 images in 100 clusters;
    above it fewer, which a line says (own choice). Larger: a lower inertia, slower."""
    regularization: NonNegative | None = None
    """Weight of additional links from every image to all others, as a multiple of the mean number of links of an image
    (Amini et al. 2013, arXiv:1207.2340), which join the parts of a graph that falls apart. null: 1 for a graph that
    falls apart, 0 for a connected one. Larger: parts that hang together loosely are less often groups of their own, and
    the graph counts less."""
    smallest_part: Fraction = 0.1
    """Parts of the graph without a link to the rest that have fewer images than this, as a share of the mean size of a
    group, are left out (own choice): a few near-copies of one image, which only know each other, would be a group.
    Larger: more of the small parts are left out."""


@dataclass(frozen=True)
class SpectralGroups:
    """Groups of images, and what they were found by."""

    groups: NDArray[np.int64]
    """[N], from 0; -1 for the images that are left out."""
    parts: int
    """Number of connected parts of the graph, with those that are left out."""
    eigenvalues: NDArray[np.float64]
    """[clusters], the largest ones of the normalised adjacency, descending; a gap after them speaks for the number."""


def adjacency(neighbors: NDArray[Any]) -> csr_array:
    """Return the symmetric adjacency [N, N] of the graph of neighbours [N, k]: 1 for a mutual link, ½ for one side's.

    Raises ValueError for another shape and for indices outside [0, N).
    """
    neighbors = np.asarray(neighbors)
    count = len(neighbors)
    if neighbors.ndim != 2 or not neighbors.size or not 0 <= neighbors.min() <= neighbors.max() < count:
        raise ValueError(f"neighbors: shape {neighbors.shape} found, expected [N, k] of indices below {count}")
    k = neighbors.shape[1]
    directed = csr_array(
        (np.ones(neighbors.size), neighbors.ravel(), np.arange(0, neighbors.size + 1, k)), shape=(count, count)
    )
    return ((directed + directed.T) / 2).tocsr()


def spectral_vectors(
    links: csr_array, dimensions: int, *, regularization: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues [d], descending, and eigenvectors [N, d] of D^-½ W D^-½.

    links: A [N, N], symmetric, each row with a link. W is A plus the links of `SpectralSettings.regularization`, D has
    the sums of its rows. The vectors' signs are arbitrary; otherwise the result depends on `seed` alone.
    """
    count = links.shape[0]
    degree = np.asarray(links.sum(axis=1)).ravel()
    uniform = regularization * degree.mean()  # each image's links to all, together
    root = 1 / np.sqrt(degree + uniform)
    matrix = diags_array(root) @ links @ diags_array(root)
    return largest_eigenvectors(matrix, np.sqrt(uniform / count) * root, dimensions, seed=seed)


def spectral_groups(
    neighbors: NDArray[Any],
    *,
    clusters: int,
    settings: SpectralSettings = SpectralSettings(),
    seed: int,
    where: str | None = None,
) -> SpectralGroups:
    """Cluster images by the graph of their neighbours [N, k]; the result depends on `seed` alone.

    The rows of the eigenvectors are scaled to norm 1, and k-means groups them. where: params key of the settings, for a
    line about fewer restarts; None: no line. Memory: N · (k + 3 · clusters) values.
    Raises ValueError for more clusters than images and in the cases of `adjacency`.
    """
    links = adjacency(neighbors)
    if clusters > len(neighbors):
        raise ValueError(f"clusters: {clusters} found, expected at most the {len(neighbors)} images")
    parts, part = connected_components(links, directed=False)
    size = np.bincount(part)
    kept = np.flatnonzero((size >= settings.smallest_part * len(part) / clusters)[part])
    if len(kept) < max(clusters, len(part) / 2):  # a graph of small parts alone
        kept = np.arange(len(part))
    regularization = settings.regularization
    if regularization is None:
        regularization = 1.0 if len(np.unique(part[kept])) > 1 else 0.0
    values, vectors = spectral_vectors(links[kept][:, kept], clusters, regularization=regularization, seed=seed)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = vectors / np.where(norm > 0, norm, 1)
    groups = np.full(len(part), -1, dtype=np.int64)
    restarts = announced_restarts(
        settings.restarts,
        images=len(rows),
        clusters=clusters,
        components=clusters,
        up_to=settings.all_restarts_up_to,
        where=where,
    )
    groups[kept] = KMeans(clusters, n_init=restarts, random_state=seed).fit(rows).labels_
    return SpectralGroups(groups, int(parts), values)
