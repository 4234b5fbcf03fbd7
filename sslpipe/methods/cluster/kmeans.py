"""k-means on whitened principal components of a frozen network's features, a baseline without training."""

from dataclasses import dataclass

import numpy as np
import torch

from sslpipe.io.settings import TwoOrMore
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.methods.cluster._levels import LevelsSettings
from sslpipe.methods.cluster._on_features import OnFeatures, neighbors_of
from sslpipe.metrics.temperature import temperature_of
from sslpipe.metrics.whitened_kmeans import WhitenedKMeansSettings, fit_whitened_kmeans
from sslpipe.nets.heads import Head
from sslpipe.nets.unit_heads import CentroidHead

FITTED = 20_000
"""Images that the temperature is fitted to, at equal distances in the store's order (own choice)."""


@dataclass(frozen=True, kw_only=True)
class Settings(WhitenedKMeansSettings):
    """The features are L2-normalised, reduced to their principal components, whitened and L2-normalised again."""

    clusters: TwoOrMore
    """Number of clusters. More: smaller and finer groups, which may split a class."""
    compare: CompareSettings = CompareSettings()
    """The comparison of the model with plain baselines."""
    levels: LevelsSettings = LevelsSettings()
    """How the groups merge into fewer."""
    fit: None = None
    """There is no training loop."""


class Method(OnFeatures[Settings]):
    """k-means; the confidence of the model is as high, on average, as the share of neighbours in one cluster.

    The distances to the centroids order the clusters, but do not say how sure that is. So the temperature of their
    softmax is chosen (own choice) such that the mean confidence of training images equals the share of pairs of mined
    neighbours that are in the same cluster.
    """

    def find(self) -> tuple[Head, dict[str, float]]:
        """Fit k-means; return the head of its centroids."""
        clusters = self.settings.clusters
        fitted = fit_whitened_kmeans(
            self.features,
            clusters=clusters,
            settings=self.settings,
            seed=self.seed,
            pca=self.pca,
            where=None if self.is_baseline else "cluster.kmeans",
        )
        embedding = fitted.embed(self.features)
        groups = fitted.predict(embedding)
        neighbors = neighbors_of(self.train_set)
        agreement = float(np.mean([(groups[column] == groups).mean() for column in neighbors.T]))
        few = embedding[:: -(-len(embedding) // FITTED)]
        temperature = temperature_of(few @ fitted.centers.T - np.square(fitted.centers).sum(axis=1) / 2, agreement)
        mean, whitening = torch.from_numpy(fitted.pca.mean), torch.from_numpy(fitted.pca.whitening)
        head = CentroidHead.of(mean, whitening, torch.from_numpy(fitted.centers), temperature=temperature)
        return head, {"agreement": agreement, "temperature": temperature}
