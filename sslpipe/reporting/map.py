"""The map: a place in two dimensions for every image, near those of its neighbours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.io.console import info, progress
from sslpipe.reporting.encoding import encoded
from sslpipe.reporting.neighbors import Similar

MAP_NEIGHBORS = 30
"""Neighbours of each image whose distances the map keeps (own choice: t-SNE's perplexity is a third of it)."""
EARLY, LATE, ROUNDS = 100, 250, 50
"""Iterations with and without exaggeration, and those between two lines of progress (own choice: openTSNE's are 250 and
500; of 50,000 images, fewer already show the groups)."""
EARLY_EXAGGERATION = 12.0
HIGHEST = 65535


def map_part(similar: Similar, seed: int, source: str) -> dict[str, Any]:
    """Return the part `map` of the report. source: what the similarities are of, for the sentence on the map."""
    places = scaled(embed(similar, seed))
    how = (
        f"t-SNE (openTSNE) of the {similar.index.shape[1]} nearest neighbours of each image by {source}: near images "
        "are similar, while distances and sizes of islands mean little. For looking; nothing is clustered upon it."
    )
    return {"x": encoded(places[:, 0], "u2"), "y": encoded(places[:, 1], "u2"), "how": how}


def embed(similar: Similar, seed: int) -> NDArray[np.float64]:
    """Return the places of N images in two dimensions, [N, 2], the same for any number of threads.

    t-SNE (van der Maaten and Hinton 2008) with the gradient of Linderman et al. 2019 (arXiv:1712.09005), from the first
    two principal components. Up to three images, which have no such graph, lie side by side.
    """
    count, k = similar.index.shape
    start = _start(similar.vectors)
    if k < 3:
        return np.column_stack([np.arange(count), np.zeros(count)]).astype(np.float64)
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    distance = np.sqrt(np.maximum(2 - 2 * similar.cosine.astype(np.float64), 0))
    graph = PrecomputedNeighbors(similar.index, distance)
    # One thread: with more, sums are in another order, and beside other processes it is slower.
    affinities = PerplexityBasedNN(knn_index=graph, perplexity=k / 3, n_jobs=1)
    places = TSNEEmbedding(start, affinities, n_jobs=1, random_state=seed, negative_gradient_method="auto")
    with progress("map", EARLY + LATE, "iterations") as bar:
        for iterations, exaggeration, momentum in ((EARLY, EARLY_EXAGGERATION, 0.5), (LATE, 1.0, 0.8)):
            for _ in range(0, iterations, ROUNDS):
                places = places.optimize(ROUNDS, exaggeration=exaggeration, momentum=momentum, n_jobs=1)
                bar.advance(ROUNDS)
    found = np.asarray(places, np.float64)
    if not np.isfinite(found).all():
        info("map: t-SNE has no finite result; the map shows the first two principal components")
        return start
    return found


def scaled(places: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return places [N, 2] in whole numbers from 0 to HIGHEST, with one scale for both dimensions."""
    low, high = places.min(axis=0), places.max(axis=0)
    span = float((high - low).max()) or 1.0
    centred = (places - (low + high) / 2) / span + 0.5
    whole: NDArray[np.int64] = np.clip(np.rint(centred * HIGHEST), 0, HIGHEST).astype(np.int64)
    return whole


def _start(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the first two principal components of vectors [N, C], scaled as t-SNE starts, [N, 2]."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    places = centred @ axes
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    return places / (places[:, 0].std() or 1.0) * 1e-4
