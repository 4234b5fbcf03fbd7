"""k-means, the baseline that a clustering has to beat."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from sslpipe.io.settings import Count


@dataclass(frozen=True, kw_only=True)
class KMeansSettings:
    """How k-means is run."""

    restarts: Count = 10
    """Runs from new k-means++ starts (Arthur and Vassilvitskii 2007), of which the tightest is kept."""


def kmeans(
    train: NDArray[np.float32], scored: NDArray[np.float32], *, clusters: int, settings: KMeansSettings, seed: int
) -> NDArray[np.int64]:
    """The cluster of each scored vector, [M], after k-means on the training vectors.

    train: [N, D]; scored: [M, D]. Raises ValueError for more clusters than vectors.
    """
    model = KMeans(clusters, n_init=settings.restarts, random_state=seed).fit(train)
    return model.predict(scored).astype(np.int64)  # type: ignore[no-any-return]
