"""Neighbour search by faiss, on a GPU if faiss and the device support it, else on the CPU; faiss is imported on use."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.io.console import info
from sslpipe.neighbors import torch_search
from sslpipe.neighbors.faiss_index import (
    FINER,
    Recall,
    compared_queries,
    cost,
    import_faiss,
    least_effort,
    list_count,
    open_index,
    set_effort,
)
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.saved_search import NOT_SAVED, SavedSearch
from sslpipe.neighbors.unit_vectors import UnitVectors

QUERIES = 4096
"""Number of queries per call of faiss, which bounds the memory and the time between two updates of the progress."""
LONGEST = 4096
"""Greatest length of hnsw's search list (own choice: from there on the exact search is faster up to 900,000 images)."""
Found = tuple[NDArray[np.int64], NDArray[np.float32]]


def search(
    queries: UnitVectors,
    bank: UnitVectors,
    *,
    k: int,
    exclude_self: bool,
    settings: SearchSettings,
    device: torch.device,
    advance: Callable[[int], None],
    saved: SavedSearch = NOT_SAVED,
    measured: dict[str, float] | None = None,
) -> Found:
    """Return the k rows of `bank` with the highest inner product with each query, among those that the index searches.

    queries: [Q, D]. bank: [N, D]. exclude_self: query i is bank[i], which is not its own neighbour. advance: called
    with the number of queries done since the last call. saved: where the index and the results so far are saved, from
    which a search that was stopped goes on. measured: gets the share of exact neighbours that an approximate index
    finds, as "recall", for other queries than those that its effort is chosen by. If such an index costs as much as a
    comparison of all images, these are compared instead, and a line says so.
    Returns indices and products clipped to [-1, 1], [Q, k] each, highest first.
    Raises UserError if faiss is not installed, or if there are more lists than images or more probes than lists.
    """
    measured = {} if measured is None else measured
    pairs = len(queries) * len(bank) / (2 if exclude_self else 1)
    exact = {"k": k, "exclude_self": exclude_self, "advance": advance, "saved": saved}
    import_faiss()  # its absence is an error even where all are compared
    if settings.index not in ("ivf", "hnsw"):
        index = open_index(bank, settings, device, saved)
    else:
        if settings.index == "ivf":
            list_count(settings, len(bank))
        is_free = not (settings.lists or settings.probes)
        if is_free and cost(settings, len(queries), len(bank), 1) >= pairs:
            info(f"{_of(queries, bank, k)}: all are compared, which is faster than index {settings.index}")
            measured["recall"] = 1.0
            return torch_search.search(queries, bank, **exact)  # type: ignore[arg-type]
        index = open_index(bank, settings, device, saved)
        chosen, others = compared_queries(len(queries))
        recall_of = partial(Recall, queries, bank, k, exclude_self)
        effort, share = _choose(index, settings, recall_of, chosen, others)
        if is_free and (share < settings.recall or cost(settings, len(queries), len(bank), effort) >= pairs):
            info(
                f"{_of(queries, bank, k)}: all are compared, since index {settings.index} would need as long for "
                f"{settings.recall:.1%} of the neighbours"
            )
            measured["recall"] = 1.0
            return torch_search.search(queries, bank, **exact)  # type: ignore[arg-type]
        measured["recall"] = share
        how = f"{effort} of {index.nlist} lists" if settings.index == "ivf" else f"a list of {effort}"
        info(
            f"{_of(queries, bank, k)}: index {settings.index}, {how}, finds {share:.2%} of the exact "
            f"neighbours of {len(others)} images; mine_neighbors.index: exact compares all"
        )
    return _in_chunks(index, queries, bank, k, exclude_self, advance, saved)


def _of(queries: UnitVectors, bank: UnitVectors, k: int) -> str:
    return f"mine_neighbors: {k} neighbours of {len(queries)} images among {len(bank)}"


def _choose(
    index: Any,
    settings: SearchSettings,
    recall_of: Callable[[NDArray[np.int64]], Recall],
    chosen: NDArray[np.int64],
    others: NDArray[np.int64],
) -> tuple[int, float]:
    """Set the effort of a search, and return it and the share of the other queries' exact neighbours that it finds.

    It is the least that finds the wanted share for the chosen queries, raised until it does for the others as well.
    Probes that are set remain as they are.
    """
    highest = index.nlist if settings.index == "ivf" else min(LONGEST, index.ntotal)

    def recall(sample: Recall, effort: int) -> float:
        set_effort(index, settings, effort)
        return sample.of(index)

    if settings.index == "ivf" and settings.probes:
        return settings.probes, recall(recall_of(others), settings.probes)
    effort, _ = least_effort(partial(recall, recall_of(chosen)), settings.recall, highest)
    sample = recall_of(others)
    while (share := recall(sample, effort)) < settings.recall and effort < highest:
        effort = min(highest, effort + max(1, effort // FINER))
    return effort, share


def _in_chunks(
    index: Any,
    queries: UnitVectors,
    bank: UnitVectors,
    k: int,
    exclude_self: bool,
    advance: Callable[[int], None],
    saved: SavedSearch,
) -> Found:
    """Search QUERIES at a time, from the first one that is not saved."""
    indices = np.empty((len(queries), k), dtype=np.int64)
    similarities = np.empty((len(queries), k), dtype=np.float32)
    before, start = saved.load(), 0
    if "indices" in before and before["indices"].shape[1] == k:
        start = len(before["indices"])
        indices[:start], similarities[:start] = before["indices"], before["similarities"]
        advance(start)
    for first in range(start, len(queries), QUERIES):
        rows = slice(first, min(first + QUERIES, len(queries)))
        few = queries[rows]
        values, found = index.search(few.numpy(), k + exclude_self)
        if len(short := np.flatnonzero((found == -1).any(axis=1))):
            # The lists that were searched have too few images, so these queries are compared with all images.
            found[short], values[short] = torch_search.search(
                few[torch.from_numpy(short)], bank, k=k + exclude_self, exclude_self=False, advance=lambda _: None
            )
        if exclude_self:
            # At any rank: copies of the image may precede it, or replace it among the results.
            values[found == np.arange(rows.start, rows.stop)[:, None]] = -np.inf
        order = np.lexsort((found, -values), axis=1)[:, :k]
        indices[rows] = np.take_along_axis(found, order, axis=1)
        similarities[rows] = np.take_along_axis(values, order, axis=1)
        advance(rows.stop - rows.start)
        if rows.stop < len(queries) and saved.due():
            saved.save(indices=indices[: rows.stop], similarities=similarities[: rows.stop])
    return indices, similarities.clip(-1, 1)
