"""Neighbours among the labelled images, which grow by a few between questions."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.neighbors.search import nearest_in, nearest_neighbors

MOST_NEW = 0.25
"""Share of new images from which all are searched again (own choice: two searches then take about as long as one)."""


@dataclass(frozen=True)
class Found:
    """The neighbours of L images among each other."""

    image: NDArray[np.int64]
    """[L], ascending."""
    near: NDArray[np.int64]
    """[L, k], the neighbours as images, the nearest first, the lowest image first among equals."""
    cosine: NDArray[np.float32]
    """[L, k]."""

    @property
    def index(self) -> NDArray[np.int64]:
        """The neighbours as places in `image`, [L, k]."""
        return np.searchsorted(self.image, self.near)


def find(
    vectors: NDArray[np.float32], image: NDArray[np.int64], k: int, device: torch.device, last: Found | None = None
) -> Found:
    """Return the k nearest neighbours of some images among each other.

    vectors: [N, C], of all images. image: [L], ascending, more than k. last: what was found before with this k; if all
    its images are among these, and few others, only these others are searched.
    """
    if last is None or not _grown(last.image, image):
        near, cosine = nearest_neighbors(vectors[image], k=k, device=device)
        return Found(image, image[near], cosine)
    added = np.setdiff1d(image, last.image, assume_unique=True)
    if not len(added):
        return last
    # Of the former images, the new ones may be neighbours; the new ones have none yet.
    near, cosine = nearest_in(vectors[last.image], vectors[added], k=min(k, len(added)), device=device)
    former = _first(np.hstack([last.near, added[near]]), np.hstack([last.cosine, cosine]), k)
    near, cosine = nearest_in(vectors[added], vectors[image], k=k + 1, device=device)
    # An image is not its own neighbour; among many copies it may be behind the first k + 1.
    own = image[near] == added[:, None]
    new = _first(image[near], np.where(own, np.float32(-np.inf), cosine), k)
    order = np.argsort(np.concatenate([last.image, added]))
    return Found(image, np.vstack([former[0], new[0]])[order], np.vstack([former[1], new[1]])[order])


def _grown(before: NDArray[np.int64], now: NDArray[np.int64]) -> bool:
    few = len(before) <= len(now) <= len(before) * (1 + MOST_NEW)
    return few and bool(np.isin(before, now, assume_unique=True).all())


def _first(
    near: NDArray[np.int64], cosine: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest of each row, the nearest first, the lowest image first among equals."""
    order = np.lexsort((near, -cosine), axis=1)[:, :k]
    return np.take_along_axis(near, order, 1), np.take_along_axis(cosine, order, 1)
