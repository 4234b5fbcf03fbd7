"""Indices of faiss: how they are built, what they cost, and how many of the exact neighbours they find."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.data.seeds import RandomStream, mix
from sslpipe.io.errors import UserError
from sslpipe.neighbors import torch_search
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.saved_search import SavedSearch
from sslpipe.neighbors.unit_vectors import UnitVectors

IMAGES_PER_LIST = 39
"""Minimum number of images per list by which faiss' k-means places a centroid without a warning."""
PER_LIST = 64
"""Number of images per list on which the lists are trained; faiss uses up to 256 (own choice)."""
SAMPLED = 1 << 29
"""Maximum size in bytes of the vectors on which the lists are trained, unless there are more lists."""
ITERATIONS = 10
"""Iterations of k-means for the lists: faiss' default."""
ADDED = 16384
"""Number of images that are added to an index at a time."""
LINKS = 32
"""Links per image of the graph of hnsw (faiss' default)."""
COMPARED = 500
"""Queries that are also searched exactly, to choose an effort, and as many others, to report what it finds: 10,000
neighbours at k = 20 (own choice)."""
ROUNDING = 1e-6
"""Difference of cosines that two ways to sum them up may cause; 1e-3 for vectors that are held as float16."""
FINER = 16
"""Efforts that differ by less than this share of them, as 1 / FINER, are not told apart: it saves less than it costs
(own choice)."""
SCANNED = 5
"""Time to compare a query with an image of a list, as a multiple of that within a product of matrices (own choice,
measured with one thread at 50,000 × 128: 0.18 and 0.037 ns for each dimension)."""
CONSTRUCTED = 120
"""Length of the list with which the graph of hnsw is built (own choice). For 100,000 × 128 in 100 groups, the graph of
faiss' default, 40, takes a third of the time, but to find 99 % a search's list of 1,792 images instead of 64."""
GRAPH, GRAPH_SEARCHED = 77_000, 290
"""Time to put an image into the graph of hnsw and to search it, as a number of comparisons in a product of matrices,
and what each further image on the search's list adds (own choice, measured with one thread at 100,000 × 128)."""


def import_faiss() -> Any:
    """Return faiss; raises UserError if it is not installed."""
    try:
        import faiss
    except ImportError:
        raise UserError(
            "mine_neighbors.backend: faiss is not installed; install faiss-gpu (Linux) or faiss-cpu, or use index "
            "'exact' with backend 'torch'"
        ) from None
    return faiss


def list_count(settings: SearchSettings, images: int) -> int:
    """Return the number of lists of the ivf index; raises UserError if there are more than images, or more probes."""
    lists = settings.lists or max(1, min(round(4 * images**0.5), images // IMAGES_PER_LIST))
    if lists > images:
        raise UserError(f"mine_neighbors.lists: {lists} is more than the {images} images")
    if settings.probes and settings.probes > lists:
        raise UserError(f"mine_neighbors.probes: {settings.probes} is more than the {lists} lists")
    return lists


def cost(settings: SearchSettings, queries: int, images: int, effort: int) -> float:
    """Return what an approximate search costs with its index, in comparisons of two images in a product of matrices.

    effort: probes of ivf, or length of the search's list of hnsw.
    """
    if settings.index == "hnsw":
        return max(queries, images) * float(GRAPH + GRAPH_SEARCHED * effort)
    lists = list_count(settings, images)
    trained = ITERATIONS * min(images, PER_LIST * lists)
    return float(lists) * (trained + images) + queries * (lists + SCANNED * effort * images / lists)


def open_index(bank: UnitVectors, settings: SearchSettings, device: torch.device, saved: SavedSearch) -> Any:
    """Return an index of unit vectors [N, D] by inner product, the saved one if there is one.

    The lists and the graph of vectors that are too many to be all in memory as float32 hold them as float16.
    """
    faiss = import_faiss()
    if settings.index not in ("ivf", "hnsw") or (path := saved.index()) is None:
        index = _build(faiss, bank, settings, device)
        if settings.index in ("ivf", "hnsw"):
            held = faiss.index_gpu_to_cpu(index) if hasattr(index, "getDevice") else index
            saved.save_index(lambda path: faiss.write_index(held, str(path)))
        return index
    return _on(faiss, faiss.read_index(str(path)), device)


def _build(faiss: Any, bank: UnitVectors, settings: SearchSettings, device: torch.device) -> Any:
    images, dimensions = bank.shape
    index: Any = faiss.IndexFlatIP(dimensions)
    kind, metric, flat = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, bank.resident is not None
    if settings.index == "ivf":
        lists = list_count(settings, images)
        index = (
            faiss.IndexIVFFlat(index, dimensions, lists, metric)
            if flat
            else faiss.IndexIVFScalarQuantizer(index, dimensions, lists, kind, metric)
        )
        index.cp.min_points_per_centroid = 1  # no warning: the number of lists is the user's choice
        index.cp.max_points_per_centroid = PER_LIST
    elif settings.index == "hnsw":
        index = (
            faiss.IndexHNSWFlat(dimensions, LINKS, metric)
            if flat
            else faiss.IndexHNSWSQ(dimensions, kind, LINKS, metric)
        )
        index.hnsw.efConstruction = CONSTRUCTED
    index = _on(faiss, index, device)
    if not index.is_trained:
        index.train(_sample(bank, list_count(settings, images) if settings.index == "ivf" else 1))
    for first in range(0, images, ADDED):
        index.add(bank[first : first + ADDED].numpy())
    return index


def _on(faiss: Any, index: Any, device: torch.device) -> Any:
    """Return the index on a GPU if faiss and the index support it; the graph of hnsw remains on the CPU."""
    if device.type == "cuda" and getattr(faiss, "get_num_gpus", int)() > 0 and not hasattr(index, "hnsw"):
        # The index keeps a reference to the resources.
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    return index


def set_effort(index: Any, settings: SearchSettings, effort: int) -> None:
    """Set the number of lists that are searched, or the length of the search's list."""
    if settings.index == "ivf":
        index.nprobe = effort
    else:
        index.hnsw.efSearch = effort


def compared_queries(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the queries that an effort is chosen by, and those that it is tried on, whose share is reported.

    The effort is the least that reaches a share on the former, so that their share is too high for all. The latter are
    others, drawn by a generator of their own; all queries if there are no more than twice COMPARED.
    """
    chosen = np.linspace(0, count - 1, min(COMPARED, count)).astype(np.int64)
    if count <= 2 * COMPARED:
        return chosen, np.arange(count)
    generator = np.random.default_rng(mix(0, RandomStream.RECALL_SAMPLE))
    drawn = generator.choice(count, 2 * COMPARED, replace=False)
    return chosen, np.sort(drawn[~np.isin(drawn, chosen)][:COMPARED])


class Recall:
    """The share of their exact neighbours that an index finds for some queries."""

    def __init__(
        self, queries: UnitVectors, bank: UnitVectors, k: int, exclude_self: bool, drawn: NDArray[np.int64]
    ) -> None:
        """drawn: [Q], the queries. The other arguments are those of `torch_search.search`."""
        # A query that is in the bank is one of its own neighbours in both searches, unless it has many copies.
        self.k = min(k + exclude_self, len(bank))
        self.rows: NDArray[np.float32] = queries.rows(torch.from_numpy(drawn)).numpy()
        """The queries, [Q, D]."""
        exact = torch_search.search(
            torch.from_numpy(self.rows), bank, k=self.k, exclude_self=False, advance=lambda _: None
        )
        self._least = exact[1][:, -1:] - (ROUNDING if bank.resident is not None else 1e-3)
        self._own = int(exclude_self)

    def of(self, index: Any) -> float:
        """Return the share, 0 to 1; copies of one another count alike, and the query itself does not count."""
        found = index.search(self.rows, self.k)[0] >= self._least
        hits = found.sum(axis=1) - self._own
        return float(hits.clip(0).mean() / (self.k - self._own))


def least_effort(recall: Callable[[int], float], wanted: float, highest: int) -> tuple[int, float]:
    """Return the lowest effort that finds a share of `wanted`, and the share, by doubling and then halving steps.

    recall: effort → share, which does not fall. highest: the effort that is returned if none finds it.
    """
    low, high = 0, 1
    while (share := recall(high)) < wanted and high < highest:
        low, high = high, min(2 * high, highest)
    while high - low > max(1, high // FINER):
        middle = (low + high) // 2
        found = recall(middle)
        low, high, share = (low, middle, found) if found >= wanted else (middle, high, share)
    return high, share


def _sample(bank: UnitVectors, lists: int) -> NDArray[np.float32]:
    """Return the vectors that the lists are trained on: evenly spaced ones, if not all."""
    count = min(len(bank), max(1, lists * PER_LIST), max(lists, SAMPLED // (4 * bank.shape[1])))
    rows = np.linspace(0, len(bank) - 1, count).astype(np.int64)
    parts = [rows[start : start + ADDED] for start in range(0, count, ADDED)]
    return np.concatenate([bank.rows(torch.from_numpy(part)).numpy() for part in parts])
