"""Neighbour search by faiss, on a GPU if faiss and the device support it, else on the CPU; faiss is imported on use."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.io.errors import UserError
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.unit_vectors import UnitVectors

IMAGES_PER_LIST = 39
"""Minimum number of images per list by which faiss' k-means places a centroid without a warning."""
PER_LIST = 64
"""Number of images per list on which the lists of very many images are trained; faiss uses up to 256 (own choice)."""
SAMPLED = 1 << 29
"""Maximum size in bytes of the vectors on which the lists are trained, unless there are more lists."""
ADDED = 16384
"""Number of images that are added to an index at a time."""
QUERIES = 4096
"""Number of queries per call of faiss, which bounds the memory and the time between two updates of the progress."""


def search(
    queries: UnitVectors,
    bank: UnitVectors,
    *,
    k: int,
    exclude_self: bool,
    settings: SearchSettings,
    device: torch.device,
    advance: Callable[[int], None],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k rows of `bank` with the highest inner product with each query, among those that the index searches.

    queries: [Q, D]. bank: [N, D]. exclude_self: query i is bank[i], which is not its own neighbour. advance: called
    with the number of queries done since the last call.
    Returns indices and products clipped to [-1, 1], [Q, k] each, highest first.
    Raises UserError if faiss is not installed, or if there are more lists than images or more probes than lists.
    """
    index = _build_index(bank, settings, device)
    indices = np.empty((len(queries), k), dtype=np.int64)
    similarities = np.empty((len(queries), k), dtype=np.float32)
    for first in range(0, len(queries), QUERIES):
        rows = slice(first, min(first + QUERIES, len(queries)))
        few = queries[rows].numpy()
        values, found = index.search(few, k + exclude_self)
        own = np.arange(rows.start, rows.stop)[:, None]
        for row in np.flatnonzero((found == -1).any(axis=1)):
            # The lists that were searched have too few images, so this query is compared with all images.
            parts = (bank[start : start + QUERIES].numpy() for start in range(0, len(bank), QUERIES))
            products = np.concatenate([part @ few[row] for part in parts])
            found[row] = np.argsort(-products, kind="stable")[: k + exclude_self]
            values[row] = products[found[row]]
        if exclude_self:
            # At any rank: copies of the image may precede it, or replace it among the results.
            values[found == own] = -np.inf
        order = np.lexsort((found, -values), axis=1)[:, :k]
        indices[rows] = np.take_along_axis(found, order, axis=1)
        similarities[rows] = np.take_along_axis(values, order, axis=1)
        advance(rows.stop - rows.start)
    return indices, similarities.clip(-1, 1)


def _build_index(bank: UnitVectors, settings: SearchSettings, device: torch.device) -> Any:
    """Build a faiss index of unit vectors [N, D] by inner product.

    The lists of vectors that are too many to be all in memory as float32 hold them as float16.
    """
    try:
        import faiss
    except ImportError:
        raise UserError(
            "mine_neighbors.backend: faiss is not installed; install faiss-gpu (Linux) or faiss-cpu, or use index "
            "'exact' with backend 'torch'"
        ) from None
    images, dimensions = bank.shape
    index: Any = faiss.IndexFlatIP(dimensions)
    if settings.index == "ivf":
        lists = settings.lists or max(1, min(round(4 * images**0.5), images // IMAGES_PER_LIST))
        probes = settings.probes or -(-lists // 8)
        if lists > images:
            raise UserError(f"mine_neighbors.lists: {lists} is more than the {images} images")
        if probes > lists:
            raise UserError(f"mine_neighbors.probes: {probes} is more than the {lists} lists")
        if bank.resident is not None:
            index = faiss.IndexIVFFlat(index, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        else:
            kind = faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexIVFScalarQuantizer(index, dimensions, lists, kind, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # no warning: the number of lists is the user's choice
    if device.type == "cuda" and getattr(faiss, "get_num_gpus", int)() > 0:
        # The index keeps a reference to the resources.
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    if settings.index == "ivf":
        index.train(_sample(bank, lists))
        index.nprobe = probes
    for first in range(0, len(bank), ADDED):
        index.add(bank[first : first + ADDED].numpy())
    return index


def _sample(bank: UnitVectors, lists: int) -> NDArray[np.float32]:
    """Return the vectors that the lists are trained on: all, or evenly spaced ones where faiss would draw some."""
    count = min(len(bank), lists * PER_LIST, max(lists, SAMPLED // (4 * bank.shape[1])))
    if bank.resident is not None or count == len(bank):
        return bank[:].numpy()
    rows = np.linspace(0, len(bank) - 1, count).astype(np.int64)
    return np.concatenate([bank[row : row + 1].numpy() for row in rows])
