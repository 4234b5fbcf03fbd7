"""A linear classifier of given groups of images, so that groups found on a graph can be predicted for new images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from sslpipe.data.samples import some_of
from sslpipe.io.settings import Count, Positive
from sslpipe.metrics.pca import Features, Pca, fit_pca
from sslpipe.nets.unit_heads import ConsensusHead

NEVER = -1e4
"""Bias of a group without images: its probability is 0."""


@dataclass(frozen=True, kw_only=True)
class DistilSettings:
    """Settings of the multinomial logistic regression of groups on features."""

    components: Count = 256
    """Number of principal components of the L2-normalised features that it is fitted to. More: finer differences
    between images, a larger model, a slower fit."""
    inverse_penalty: Positive = 10.0
    """C: the weight of the summed cross-entropy against half of the squared norm of the weights (own choice). Larger:
    the groups are reproduced more exactly, with more certain predictions."""
    images: Count = 50_000
    """Maximum number of images that it is fitted to, drawn at random (own choice). More: closer to the groups,
    slower."""
    iterations: Count = 300
    """Maximum number of steps of L-BFGS. More: closer to the minimum, if it is not reached before."""


def head_of_groups(
    features: Features,
    groups: NDArray[Any],
    *,
    clusters: int,
    settings: DistilSettings,
    seed: int,
    pca: Pca | None = None,
) -> ConsensusHead:
    """Return the classifier of `linear_of_groups` as a head, on the CPU, for features that it L2-normalises."""
    weight, bias = linear_of_groups(features, groups, clusters=clusters, settings=settings, seed=seed, pca=pca)
    return ConsensusHead.of(torch.from_numpy(weight)[None], torch.from_numpy(bias)[None], unit_features=True)


def linear_of_groups(
    features: Features,
    groups: NDArray[Any],
    *,
    clusters: int,
    settings: DistilSettings,
    seed: int,
    pca: Pca | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights [K, D] and biases [K] for L2-normalised features, by a balanced multinomial logistic regression.

    features: [N, D]; they are L2-normalised here. groups: [N], each below `clusters`, or -1 for an image that has none
    and is left out. pca: of the features, with at least `settings.components` components; None: it is computed. Every
    group has the same weight, however many images it has.
    Raises ValueError if no image has a group.
    """
    used = np.flatnonzero(groups >= 0)
    if not len(used):
        raise ValueError("groups: no image with a group found")
    used = used[some_of(len(used), settings.images, np.random.default_rng(seed))]
    pca = (pca or fit_pca(features, settings.components)).first(settings.components)
    components, group = pca.transform(features if len(used) == len(features) else features[used]), groups[used]
    weight, bias = np.zeros((clusters, components.shape[1])), np.full(clusters, NEVER)
    present = np.unique(group)
    bias[present] = 0
    if len(present) > 1:
        model = LogisticRegression(
            C=settings.inverse_penalty, class_weight="balanced", max_iter=settings.iterations
        ).fit(components, group)
        if len(present) == 2:  # scikit-learn has the second one's logit only
            weight[present[1]], bias[present[1]] = model.coef_[0], model.intercept_[0]
        else:
            weight[present], bias[present] = model.coef_, model.intercept_
    full = weight @ pca.basis.T
    return full.astype(np.float32), (bias - full @ pca.mean).astype(np.float32)
