"""Nearest neighbours by cosine similarity: settings, checks and the choice of the backend."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.neighbors import faiss_search, reduced_search, torch_search
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.saved_search import NOT_SAVED, SavedSearch
from sslpipe.neighbors.unit_vectors import Features, UnitVectors

Advance = Callable[[int], None]
Neighbors = tuple[NDArray[np.int64], NDArray[np.float32]]
EXACT = SearchSettings(index="exact")
REDUCED_IMAGES, REDUCED_DIMENSIONS = 50_000, 1024
"""Images, and dimensions, above and from which `auto` is reduced (own choice: an exact search takes more than a minute
of a core there)."""
FAISS = ("ivf", "hnsw")
"""Indices of faiss alone."""
CPU = torch.device("cpu")


def nearest_neighbors(
    features: Features,
    *,
    k: int,
    settings: SearchSettings = EXACT,
    device: torch.device = CPU,
    advance: Advance = lambda _: None,
    saved: SavedSearch = NOT_SAVED,
    measured: dict[str, float] | None = None,
    shared: bool = False,
) -> Neighbors:
    """Return the k images with the highest cosine similarity to each image, other than the image itself.

    features: [N, D], of any norm; a zero vector has similarity 0 to all. advance: called with the number of images
    done since the last call. saved: where the search is saved, from which it goes on after a kill. measured: gets the
    share of exact neighbours that an approximate search finds for a sample, as "recall". shared: all processes that
    train together call this, and divide an exact search; any other is computed by each of them.
    Returns indices [N, k] int64 and similarities [N, k] float32 in [-1, 1], highest first, and the lower index first
    among equal similarities (with faiss: among those that it returned). The image itself is excluded by its index, so
    that its copies are neighbours.
    Raises UserError if there are fewer than k other images or if settings contradict each other, and ValueError if
    features are not finite or not [N, D].
    """
    bank = UnitVectors(features, _search_device(settings, device))
    if k >= len(bank):
        raise UserError(f"mine_neighbors.k: {k} is more than the {len(bank) - 1} other images")
    return _search(bank, bank, k, True, settings, device, advance, saved, measured, shared)


def nearest_in(
    queries: Features,
    features: Features,
    *,
    k: int,
    settings: SearchSettings = EXACT,
    device: torch.device = CPU,
    advance: Advance = lambda _: None,
) -> Neighbors:
    """Return the k rows of `features` with the highest cosine similarity to each of `queries`.

    queries: [Q, D]. features: [N, D]. The other arguments, the order and the errors are those of `nearest_neighbors`.
    Returns indices and similarities, [Q, k] each.
    """
    search_device = _search_device(settings, device)
    unit_queries, bank = UnitVectors(queries, search_device), UnitVectors(features, search_device)
    if k > len(bank):
        raise UserError(f"mine_neighbors.k: {k} is more than the {len(bank)} images")
    if unit_queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries: {unit_queries.shape[1]} dimensions found, expected {bank.shape[1]} as in features")
    return _search(unit_queries, bank, k, False, settings, device, advance)


def _search(
    queries: UnitVectors,
    bank: UnitVectors,
    k: int,
    exclude_self: bool,
    settings: SearchSettings,
    device: torch.device,
    advance: Advance,
    saved: SavedSearch = NOT_SAVED,
    measured: dict[str, float] | None = None,
    shared: bool = False,
) -> Neighbors:
    measured = {} if measured is None else measured
    if k < 1:
        raise UserError(f"mine_neighbors.k: {k} found, expected at least 1")
    if settings.index != "ivf" and (settings.lists or settings.probes):
        raise UserError(f"mine_neighbors.lists, probes: only index 'ivf' has them, index is '{settings.index}'")
    if _uses_torch(settings):
        if _is_reduced(queries, bank, settings):
            return _reduced(queries, bank, k, exclude_self, settings, advance, saved, measured)
        return torch_search.search(
            queries, bank, k=k, exclude_self=exclude_self, advance=advance, saved=saved, shared=shared
        )
    return faiss_search.search(
        queries,
        bank,
        k=k,
        exclude_self=exclude_self,
        settings=settings,
        device=device,
        advance=advance,
        saved=saved,
        measured=measured,
    )


def _is_reduced(queries: UnitVectors, bank: UnitVectors, settings: SearchSettings) -> bool:
    """Return whether candidates are searched in fewer dimensions."""
    if settings.index != "auto":
        return settings.index == "reduced"
    many = len(queries) * len(bank) > REDUCED_IMAGES**2
    return bank.device.type == "cpu" and many and bank.shape[1] >= REDUCED_DIMENSIONS


def _reduced(
    queries: UnitVectors,
    bank: UnitVectors,
    k: int,
    exclude_self: bool,
    settings: SearchSettings,
    advance: Advance,
    saved: SavedSearch,
    measured: dict[str, float],
) -> Neighbors:
    """Search by candidates and print what share of the exact neighbours they contain; search exactly if it is low."""
    reduced = reduced_search.ReducedSearch(queries, bank, k=k, exclude_self=exclude_self)
    recall = reduced.recall()
    line = (
        f"mine_neighbors: {k} neighbours of {len(queries)} images among {len(bank)}: candidates in "
        f"{reduced_search.COMPONENTS} principal components, compared in all {bank.shape[1]} dimensions, have "
        f"{recall:.2%} of the exact neighbours of {reduced.compared} images"
    )
    if recall >= reduced_search.RECALL or settings.index == "reduced":
        info(f"{line}; mine_neighbors.index: exact compares all images")
        measured["recall"] = recall
        return reduced.search(advance, saved)
    info(f"{line}, less than {reduced_search.RECALL:.1%}, so all are compared; mine_neighbors.index: reduced does not")
    del reduced
    return torch_search.search(queries, bank, k=k, exclude_self=exclude_self, advance=advance, saved=saved)


def _uses_torch(settings: SearchSettings) -> bool:
    """Return whether the backend is torch instead of faiss."""
    if settings.backend == "torch" and settings.index in FAISS:
        raise UserError(
            f"mine_neighbors.backend: 'torch' has no index '{settings.index}'; use 'faiss' or 'auto', or index 'exact'"
        )
    if settings.backend == "faiss" and settings.index == "reduced":
        raise UserError("mine_neighbors.backend: 'faiss' has no index 'reduced'; use 'torch' or 'auto'")
    return settings.backend == "torch" or (settings.backend == "auto" and settings.index not in FAISS)


def _search_device(settings: SearchSettings, device: torch.device) -> torch.device:
    """Return the device of the vectors: the CPU for faiss and for accelerators other than CUDA, else `device`."""
    return device if _uses_torch(settings) and device.type == "cuda" else CPU
