"""k-means on whitened principal components of features, a baseline without training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans

from sslpipe.io.settings import Count
from sslpipe.metrics.pca import CHUNK, Features, Pca, fit_pca, unit_rows
from sslpipe.metrics.restarts import RESTARTS_WORK, announced_restarts

MINI_BATCH = 4096
"""Images in a mini-batch (own choice: at least a few hundred of each cluster at 10 clusters)."""

IMAGES = 16
"""Images for each component: whitening enlarges components of few images, which are noise. Own choice: on 230, 120 and
60 photographs of 10 kinds the accuracy is 0.50, 0.50 and 0.49 with it, 0.37, 0.34 and 0.25 with 64 components."""


@dataclass(frozen=True, kw_only=True)
class WhitenedKMeansSettings:
    """Settings of k-means on features: L2, PCA, whitening, L2 again, k-means."""

    components: Count = 64
    """Number of principal components; at most one for each 16 images or as many as clusters, whichever is more. More:
    finer differences between images, but whitening also enlarges noise."""
    restarts: Count = 10
    """Number of runs from different k-means++ initialisations (Arthur and Vassilvitskii 2007); the one with the lowest
    inertia is kept. More: a lower inertia, slower."""
    all_restarts_up_to: Count = RESTARTS_WORK
    """Images × clusters × components × restarts up to which all restarts are run, such as 10 of 78,000 images in 10
    clusters by 64 components; above it fewer, which a line says (own choice). Larger: a lower inertia, slower."""
    mini_batches_above: Count = 100_000
    """Number of images above which k-means learns from mini-batches (Sculley 2010), which is faster and a little less
    exact (own choice). Larger: exact k-means for more images, slower."""


@dataclass(frozen=True)
class WhitenedKMeans:
    """A fitted k-means."""

    pca: Pca
    centers: NDArray[np.float32]
    """[K, C], in the space of `embed`."""

    def embed(self, features: Features) -> NDArray[np.float32]:
        """Return the unit vectors [M, C] of features [M, D] in which k-means compares them."""
        return unit_rows(self.pca.transform(features, whiten=True))

    def predict(self, embedding: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest centre, [M], of each vector [M, C] of `embed`; the lower one of two equal ones."""
        result = np.empty(len(embedding), dtype=np.int64)
        for start in range(0, len(embedding), CHUNK):
            few = embedding[start : start + CHUNK]
            score = few @ self.centers.T - np.square(self.centers).sum(axis=1) / 2
            result[start : start + CHUNK] = score.argmax(axis=1)
        return result


def fit_whitened_kmeans(
    features: Features,
    *,
    clusters: int,
    settings: WhitenedKMeansSettings,
    seed: int,
    pca: Pca | None = None,
    where: str | None = None,
) -> WhitenedKMeans:
    """Fit k-means to features [N, D]; the result depends on `seed` alone.

    pca: of the features, with at least `settings.components` components; None: it is computed. where: params key of the
    settings, for a line about fewer restarts; None: no line.
    Memory is bounded by N · `settings.components` float32 values and one chunk of features. Raises ValueError for more
    clusters than images and for features that are not finite.
    """
    if clusters > len(features):
        raise ValueError(f"clusters: {clusters} found, expected at most the {len(features)} images")
    components = min(settings.components, max(clusters, len(features) // IMAGES))
    pca = (pca or fit_pca(features, components)).first(components)
    embedding = unit_rows(pca.transform(features, whiten=True))
    restarts = announced_restarts(
        settings.restarts,
        images=len(embedding),
        clusters=clusters,
        components=embedding.shape[1],
        up_to=settings.all_restarts_up_to,
        where=where,
    )
    if len(features) > settings.mini_batches_above:
        model = MiniBatchKMeans(clusters, n_init=restarts, random_state=seed, batch_size=MINI_BATCH)
    else:
        # The vectors are made for this call, so that scikit-learn may centre them where they are.
        model = KMeans(clusters, n_init=restarts, random_state=seed, copy_x=False)
    return WhitenedKMeans(pca, model.fit(embedding).cluster_centers_.astype(np.float32))
