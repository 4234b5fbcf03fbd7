"""k-means, the baseline that a clustering has to beat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from sslpipe.data.images import Images
from sslpipe.data.seeds import mix
from sslpipe.io.settings import Count

Vectors = Callable[[Images], NDArray[np.float32]]
"""From images to their vectors [N, D]."""
AT_ONCE = 1 << 30
"""Bytes of float32 vectors at a time, at most (own choice): pixels of large images would fill any memory."""
CHUNK = 4096
"""Images whose vectors are scored at a time."""


@dataclass(frozen=True, kw_only=True)
class KMeansSettings:
    """How k-means is run."""

    restarts: Count = 10
    """Runs from new k-means++ starts (Arthur and Vassilvitskii 2007), of which the tightest is kept."""


def kmeans(
    vectors: Vectors, train: Images, scored: Images, *, clusters: int, settings: KMeansSettings, seed: int
) -> NDArray[np.int64]:
    """The cluster of each scored image, [M], after k-means on the training images.

    Where their vectors would take more than AT_ONCE bytes, it is fitted to a random part of them.
    Raises ValueError for more clusters than vectors.
    """
    chunk = min(CHUNK, len(scored))
    first = vectors(scored.subset(torch.arange(chunk)))
    fitting = max(clusters, AT_ONCE // max(1, first[0].nbytes))
    sample = train
    if fitting < len(train):
        drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(mix(seed, 21)))[:fitting]
        sample = train.subset(drawn.sort().values)
    model = KMeans(clusters, n_init=settings.restarts, random_state=seed).fit(vectors(sample))
    answers = [model.predict(first)]
    for start in range(chunk, len(scored), CHUNK):
        index = torch.arange(start, min(start + CHUNK, len(scored)))
        answers.append(model.predict(vectors(scored.subset(index))))
    return np.concatenate(answers).astype(np.int64)
