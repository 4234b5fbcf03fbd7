"""k-means, the baseline of clustering methods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from sslpipe.data.seeds import RandomStream, mix
from sslpipe.io.console import info
from sslpipe.io.settings import Count


class Rows(Protocol):
    """What has vectors: images, or stored features."""

    def __len__(self) -> int: ...

    def subset(self, index: torch.Tensor) -> Self:
        """Return those with these indices (int64 [L]), in this order."""
        ...


R = TypeVar("R", bound=Rows)
MAX_BYTES = 1 << 30
"""Maximum size of the float32 vectors that k-means is fitted to (own choice), to bound the memory."""
CHUNK = 4096
"""Number of images whose clusters are predicted at a time."""


@dataclass(frozen=True, kw_only=True)
class KMeansSettings:
    """Settings of k-means."""

    restarts: Count = 10
    """Number of runs from different k-means++ initialisations (Arthur and Vassilvitskii 2007); the one with the lowest
    inertia is kept. More: a lower inertia, slower."""


def kmeans(
    vectors: Callable[[R], NDArray[np.float32]],
    train: R,
    scored: R,
    *,
    clusters: int,
    settings: KMeansSettings,
    seed: int,
) -> NDArray[np.int64]:
    """Fit k-means to the training images and return the cluster of each scored image, [M].

    vectors: function from images, or from their stored features, to their vectors [N, D].

    If the vectors of the training images exceed MAX_BYTES, k-means is fitted to a random sample of them.
    Raises ValueError for more clusters than vectors.
    """
    chunk = min(CHUNK, len(scored))
    first = vectors(scored.subset(torch.arange(chunk)))
    fitting = max(clusters, MAX_BYTES // max(1, first[0].nbytes))
    sample = train
    if fitting < len(train):
        generator = torch.Generator().manual_seed(mix(seed, RandomStream.KMEANS_SAMPLE))
        drawn = torch.randperm(len(train), generator=generator)[:fitting]
        sample = train.subset(drawn.sort().values)
        info(f"evaluate: k-means is fitted to {fitting} of {len(train)} images, drawn at random, to bound its memory")
    # The vectors are made for this call, so that scikit-learn may centre them where they are.
    model = KMeans(clusters, n_init=settings.restarts, random_state=seed, copy_x=False).fit(vectors(sample))
    predictions = [model.predict(first)]
    for start in range(chunk, len(scored), CHUNK):
        index = torch.arange(start, min(start + CHUNK, len(scored)))
        predictions.append(model.predict(vectors(scored.subset(index))))
    return np.concatenate(predictions).astype(np.int64)
