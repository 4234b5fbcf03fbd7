"""Nearest neighbours by cosine similarity: settings, checks and the choice of the backend."""

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
    """Settings of the neighbour search.

    The default is exact: ivf misses neighbours, and saves little time up to 20,000 images.
    """

    backend: Literal["auto", "torch", "faiss"] = "auto"
    """auto: torch for index exact (faster than faiss on the CPU, see benchmarks/mining.py), faiss for ivf."""
    index: Literal["exact", "ivf"] = "exact"
    """exact: all images are compared. ivf: images are divided into `lists` groups, and only the `probes` groups
    nearest to an image are searched for its neighbours."""
    lists: Count | None = None
    """Number of groups of the ivf index; null: 4·√N (faiss' guidelines), with at least 39 images per group."""
    probes: Count | None = None
    """Number of groups searched per image; null: an eighth of `lists`. Among 20,000 noisy points of 16 dimensions, an
    eighth found 98 % of the 20 nearest neighbours and a sixteenth 90 %; in well separated groups both found all."""


def nearest_neighbors(
    features: Features,
    *,
    k: int,
    settings: SearchSettings | None = None,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
    where: str = "mine_neighbors",
) -> Neighbors:
    """Return the k images with the highest cosine similarity to each image, other than the image itself.

    features: [N, D], of any norm; a zero vector has similarity 0 to all. advance: called with the number of images
    done since the last call. where: the block of params.yaml that holds k and the settings, for errors.
    Returns indices [N, k] int64 and similarities [N, k] float32 in [-1, 1], highest first, and the lower index first
    among equal similarities (with faiss: among those that it returned). The image itself is excluded by its index, so
    that its copies are neighbours.
    Raises UserError if there are fewer than k other images or if settings contradict each other, and ValueError if
    features are not finite or not [N, D].
    """
    device = torch.device(device)
    settings = settings or SearchSettings()
    bank = unit_vectors(features, _search_device(settings, device, where))
    if k >= len(bank):
        raise UserError(f"{where}.k: {k} is more than the {len(bank) - 1} other images")
    return _search(bank, bank, k, True, settings, device, advance, where)


def nearest_in(
    queries: Features,
    features: Features,
    *,
    k: int,
    settings: SearchSettings | None = None,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
    where: str = "mine_neighbors",
) -> Neighbors:
    """Return the k rows of `features` with the highest cosine similarity to each of `queries`.

    queries: [Q, D]. features: [N, D]. The other arguments, the order and the errors are those of `nearest_neighbors`.
    Returns indices and similarities, [Q, k] each.
    """
    device = torch.device(device)
    settings = settings or SearchSettings()
    search_device = _search_device(settings, device, where)
    unit_queries, bank = unit_vectors(queries, search_device), unit_vectors(features, search_device)
    if k > len(bank):
        raise UserError(f"{where}.k: {k} is more than the {len(bank)} images")
    if unit_queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries: {unit_queries.shape[1]} dimensions found, expected {bank.shape[1]} as in features")
    return _search(unit_queries, bank, k, False, settings, device, advance, where)


def unit_vectors(features: Features, device: torch.device) -> Tensor:
    """Return a copy of features [N, D] on `device`, float32, scaled to norm 1; a zero vector remains zero.

    Raises ValueError if features are not finite or not [N, D].
    """
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features: shape {tuple(features.shape)} found, expected [N, D]")
    if isinstance(features, Tensor):
        unit = features.detach().to(device, torch.float32, copy=True)
    else:
        unit = torch.tensor(features, dtype=torch.float32, device=device)
    # Divided by the largest entry first, because the squares of very large or small entries overflow float32.
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
    where: str,
) -> Neighbors:
    if k < 1:
        raise UserError(f"{where}.k: {k} found, expected at least 1")
    if settings.index == "exact" and (settings.lists or settings.probes):
        raise UserError(f"{where}.lists, probes: only index 'ivf' has them, index is 'exact'")
    advance = advance or (lambda _: None)
    if _backend(settings, where) == "torch":
        return torch_search.search(queries, bank, k=k, exclude_self=exclude_self, advance=advance)
    return faiss_search.search(
        queries.numpy(),
        bank.numpy(),
        k=k,
        exclude_self=exclude_self,
        index=faiss_search.build_index(
            bank.numpy(),
            ivf=settings.index == "ivf",
            lists=settings.lists,
            probes=settings.probes,
            device=device,
            where=where,
        ),
        advance=advance,
    )


def _backend(settings: SearchSettings, where: str) -> Literal["torch", "faiss"]:
    if settings.backend == "torch" and settings.index == "ivf":
        raise UserError(f"{where}.backend: 'torch' has no index 'ivf'; use 'faiss' or 'auto', or index 'exact'")
    if settings.backend == "auto":
        return "torch" if settings.index == "exact" else "faiss"
    return settings.backend


def _search_device(settings: SearchSettings, device: torch.device, where: str) -> torch.device:
    """Return the device of the vectors: the CPU for faiss and for accelerators other than CUDA, else `device`."""
    return device if _backend(settings, where) == "torch" and device.type == "cuda" else torch.device("cpu")
