"""Search by faiss, on the CPU or, where faiss and the device allow it, on a GPU; faiss need not be installed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.io.errors import UserError

IMAGES_PER_LIST = 39
"""What faiss wants at least to place the centre of a list."""
QUERIES = 4096
"""Searched at once, which bounds memory and the time between two signs of progress."""


def build_index(
    bank: NDArray[np.float32], *, ivf: bool, lists: int | None, probes: int | None, device: torch.device
) -> Any:
    """A faiss index of [N, D] unit vectors by inner product.

    ivf: `lists` inverted lists of which `probes` are searched (None: see SearchSettings); otherwise exact.
    Raises UserError where faiss is not installed or the images are too few for the lists.
    """
    faiss = _faiss()
    images, dimensions = bank.shape
    if ivf:
        lists = lists or max(1, min(round(4 * images**0.5), images // IMAGES_PER_LIST))
        probes = probes or -(-lists // 8)
        if lists > images:
            raise UserError(f"mine_neighbors.lists: {lists} asked, {images} images there")
        if probes > lists:
            raise UserError(f"mine_neighbors.probes: {probes} asked, {lists} lists there")
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimensions), dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # fewer are the user's choice, and no reason to print a warning
    else:
        index = faiss.IndexFlatIP(dimensions)
    if device.type == "cuda" and getattr(faiss, "get_num_gpus", int)() > 0:
        # The Python object keeps the resources alive for as long as the index.
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    if ivf:
        index.train(bank)
        index.nprobe = probes
    index.add(bank)
    return index


def search(
    queries: NDArray[np.float32],
    bank: NDArray[np.float32],
    *,
    k: int,
    exclude_self: bool,
    index: Any,
    advance: Callable[[int], None],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k of `bank` with the highest inner product with each query, among those that `index` looks at.

    queries: [Q, D], bank: [N, D], in `index`. exclude_self: query i is bank[i] and no neighbour of its own.
    Returns indices and products clipped to [-1, 1], [Q, k] each, highest first.
    """
    indices = np.empty((len(queries), k), dtype=np.int64)
    similarities = np.empty((len(queries), k), dtype=np.float32)
    for first in range(0, len(queries), QUERIES):
        rows = slice(first, min(first + QUERIES, len(queries)))
        values, found = index.search(queries[rows], k + exclude_self)
        own = np.arange(rows.start, rows.stop)[:, None]
        for row in np.flatnonzero((found == -1).any(axis=1)):
            # The lists that were searched hold too few images: this query is compared to all.
            products = bank @ queries[first + row]
            found[row] = np.argsort(-products, kind="stable")[: k + exclude_self]
            values[row] = products[found[row]]
        if exclude_self:
            # Wherever it stands: a copy of the image may stand before it, or push it out of the answer.
            values[found == own] = -np.inf
        order = np.lexsort((found, -values), axis=1)[:, :k]
        indices[rows] = np.take_along_axis(found, order, axis=1)
        similarities[rows] = np.take_along_axis(values, order, axis=1)
        advance(rows.stop - rows.start)
    return indices, similarities.clip(-1, 1)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise UserError(
            "mine_neighbors.backend: faiss is not installed; install faiss-gpu (Linux) or faiss-cpu, or use index "
            "'exact' with backend 'torch'"
        ) from None
    return faiss
