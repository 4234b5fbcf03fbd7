"""Nearest neighbours by cosine: the settings, the checks, and the choice of who searches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count
from sslpipe.neighbors import faiss_search, torch_search

Features = Tensor | NDArray[Any]
Advance = Callable[[int], None]
Neighbors = tuple[NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How neighbours are searched. Exact by default: ivf misses some, and at 20,000 images it saves hardly any time."""

    backend: Literal["auto", "torch", "faiss"] = "auto"
    """auto: torch for exact (faster than faiss on the CPU, see benchmarks/mining.py), faiss for ivf."""
    index: Literal["exact", "ivf"] = "exact"
    """ivf: only the `probes` of `lists` groups that lie nearest to an image are searched for its neighbours."""
    lists: Count | None = None
    """Groups of the ivf index; null: 4·√N (faiss' guidelines), but at least 39 images in each."""
    probes: Count | None = None
    """Groups searched for an image; null: an eighth of them (own choice: found 98 % of the 20 nearest
    of 20,000 points of 16 dimensions under noise, a sixteenth 90 %, and all where images form clear groups)."""


def nearest_neighbors(
    features: Features,
    *,
    k: int,
    settings: SearchSettings | None = None,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
) -> Neighbors:
    """The k images with the highest cosine similarity to each image, itself excluded (by its index: copies stay).

    features: [N, D], of any length above zero; a zero vector has similarity 0 to all. advance: is told how many more
    images are done. Returns indices [N, k] int64 and similarities [N, k] float32 in [-1, 1], highest first, of equal
    ones the lower index first (faiss: among those that it returned).
    Raises UserError where k images are not there or the settings do not fit, ValueError for features that are not
    a finite [N, D].
    """
    device = torch.device(device)
    settings = settings or SearchSettings()
    bank = unit_vectors(features, _search_device(settings, device))
    if k >= len(bank):
        raise UserError(f"mine_neighbors.k: {k} asked, {len(bank) - 1} other images there")
    return _search(bank, bank, k, True, settings, device, advance)


def nearest_in(
    queries: Features,
    features: Features,
    *,
    k: int,
    settings: SearchSettings | None = None,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
) -> Neighbors:
    """The k of `features` with the highest cosine similarity to each of `queries`, which are other images.

    queries: [Q, D]. features: [N, D]. Otherwise as `nearest_neighbors`; returns [Q, k] each.
    """
    device = torch.device(device)
    settings = settings or SearchSettings()
    where = _search_device(settings, device)
    unit_queries, bank = unit_vectors(queries, where), unit_vectors(features, where)
    if k > len(bank):
        raise UserError(f"mine_neighbors.k: {k} asked, {len(bank)} images there")
    if unit_queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries: {unit_queries.shape[1]} dimensions found, expected {bank.shape[1]} as in features")
    return _search(unit_queries, bank, k, False, settings, device, advance)


def unit_vectors(features: Features, device: torch.device) -> Tensor:
    """A copy of [N, D] features on `device`, float32, each of length 1 (a zero vector stays zero)."""
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features: shape {tuple(features.shape)} found, expected [N, D]")
    if isinstance(features, Tensor):
        unit = features.detach().to(device, torch.float32, copy=True)
    else:
        unit = torch.tensor(features, dtype=torch.float32, device=device)
    # By the largest entry first, since the squares of very large or small entries leave float32.
    largest = torch.linalg.vector_norm(unit, torch.inf, dim=1, keepdim=True)
    bad = ~largest.isfinite().flatten()
    if bad.any():
        first = int(bad.int().argmax())
        raise ValueError(f"features: NaN or infinity in {int(bad.sum())} of {len(unit)} vectors, the first at {first}")
    unit /= largest.where(largest > 0, 1)
    unit /= torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_min(1)
    return unit


def _search(
    queries: Tensor,
    bank: Tensor,
    k: int,
    exclude_self: bool,
    settings: SearchSettings,
    device: torch.device,
    advance: Advance | None,
) -> Neighbors:
    if k < 1:
        raise UserError(f"mine_neighbors.k: {k} asked, expected at least 1")
    if settings.index == "exact" and (settings.lists or settings.probes):
        raise UserError("mine_neighbors.lists, probes: only index 'ivf' has them, index is 'exact'")
    advance = advance or (lambda _: None)
    if _backend(settings) == "torch":
        return torch_search.search(queries, bank, k=k, exclude_self=exclude_self, advance=advance)
    return faiss_search.search(
        queries.numpy(),
        bank.numpy(),
        k=k,
        exclude_self=exclude_self,
        index=faiss_search.build_index(
            bank.numpy(), ivf=settings.index == "ivf", lists=settings.lists, probes=settings.probes, device=device
        ),
        advance=advance,
    )


def _backend(settings: SearchSettings) -> Literal["torch", "faiss"]:
    if settings.backend == "torch" and settings.index == "ivf":
        raise UserError("mine_neighbors.backend: 'torch' has no index 'ivf'; use 'faiss' or 'auto', or index 'exact'")
    if settings.backend == "auto":
        return "torch" if settings.index == "exact" else "faiss"
    return settings.backend


def _search_device(settings: SearchSettings, device: torch.device) -> torch.device:
    """Where the vectors lie: faiss takes them from the CPU; other accelerators than CUDA are not relied upon here."""
    return device if _backend(settings) == "torch" and device.type == "cuda" else torch.device("cpu")
