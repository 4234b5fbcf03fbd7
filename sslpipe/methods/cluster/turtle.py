"""TURTLE (Gadetsky et al. 2024, arXiv:2406.07236): groups that linear classifiers in all feature spaces reproduce.

The network is not trained: it is that of the start, with a head whose probabilities are the mean over the spaces. The
features of each of several joined networks are a space; those of a single network are the only one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sslpipe.data.samples import some_of
from sslpipe.io.console import progress
from sslpipe.io.settings import Count, TwoOrMore
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.methods.cluster._label_search import Labelling, LabelSearch, SearchSettings
from sslpipe.methods.cluster._levels import LevelsSettings
from sslpipe.methods.cluster._on_features import OnFeatures
from sslpipe.metrics.pca import Pca, fit_pca
from sslpipe.nets.heads import Head
from sslpipe.nets.unit_heads import ConsensusHead
from sslpipe.objectives.turtle import mean_label

FOLDS = 10
"""Parts of the images of which each is predicted by a classifier of the others (the paper's generalization score)."""
SCORED = 10_000
"""Maximum number of images, drawn at random, that the generalization score is computed on (own choice)."""
ITERATIONS = 300
"""Maximum number of L-BFGS's steps in each fold (own choice)."""


@dataclass(frozen=True, kw_only=True)
class Settings(SearchSettings):
    """The search for a labelling; what it sees of the features is our own choice."""

    clusters: TwoOrMore
    """Number of clusters. More: smaller and finer groups, which may split a class."""
    components: Count = 256
    """Number of principal components of each space's L2-normalised features, whose values are divided by their common
    standard deviation (own choice, as for `scan_heads`). More: finer differences between images, also of no interest,
    and slower."""
    compare: CompareSettings = CompareSettings()
    """The comparison of the model with plain baselines."""
    levels: LevelsSettings = LevelsSettings()
    """How the groups merge into fewer."""
    fit: None = None
    """There is no training loop of the engine."""


@dataclass(frozen=True)
class Space:
    """Some dimensions of the features, and their map to scaled components z = (F.normalize(x) - mean) basis / scale."""

    dimensions: slice
    pca: Pca
    scale: float
    components: Tensor
    """z of the training images, [N, C], on the device of their neighbours."""


class Method(OnFeatures[Settings]):
    """The start's network with a head of clusters on the features of each of its parts."""

    collapse_hint = "raise cluster.turtle.entropy_weight"

    def find(self) -> tuple[Head, dict[str, float]]:
        """Search for the labelling; return its head, the terms of the last step's loss, and the generalization score.

        generalization: see `generalization_score`; higher is better, without labels.
        """
        spaces = self._spaces()
        components = [space.components for space in spaces]
        generator = torch.Generator().manual_seed(self.seed)
        search = LabelSearch(components, self.settings, clusters=self.settings.clusters, generator=generator)
        with progress("" if self.is_baseline else "cluster.turtle", self.settings.steps, "steps") as bar:
            for _ in range(self.settings.steps):
                terms = search.step()
                bar.advance()
        scored = some_of(len(components[0]), SCORED, np.random.default_rng(self.seed))
        few = [each[torch.from_numpy(scored).to(each.device)] for each in components]
        with torch.no_grad():
            groups = mean_label(search.labelling(few)).argmax(dim=0)
        score = generalization_score([each.cpu().numpy() for each in few], groups.cpu().numpy(), seed=self.seed)
        columns = {name: value.item() for name, value in terms.items()}
        return _head(search.labelling, spaces, self.features.shape[1]), {**columns, "generalization": score}

    def _spaces(self) -> list[Space]:
        """Return the spaces of the training images' features, one for each joined network."""
        parts, settings = self.network.backbone.parts, self.settings
        ends = list(accumulate(parts))
        spaces = []
        for start, end in zip([0, *ends], ends, strict=False):
            if len(parts) == 1:
                pca = self.pca or self.train_set.pca(settings.components)
            else:
                pca = fit_pca(self.features[:, start:end], settings.components)
            components = pca.transform(self.features[:, start:end])
            scale = max(float(components.std()), 1e-12)
            components /= scale
            on_device = torch.from_numpy(components).to(self.train_set.neighbors.device)
            spaces.append(Space(slice(start, end), pca, scale, on_device))
        return spaces


@torch.no_grad()
def _head(labelling: Labelling, spaces: Sequence[Space], dimension: int) -> ConsensusHead:
    """Return the labelling as a head on the CPU for features [B, dimension], with the map to components folded in.

    The features of joined networks are L2-normalised already, each on its own.
    """
    weights, biases = [], []
    for space, matrix, bias in zip(spaces, labelling.matrices(), labelling.biases, strict=True):
        basis, mean = torch.from_numpy(space.pca.basis), torch.from_numpy(space.pca.mean)
        own = matrix.cpu() / space.scale @ basis.T
        weight = torch.zeros(len(own), dimension)
        weight[:, space.dimensions] = own
        weights.append(weight)
        biases.append(bias.cpu() - own @ mean)
    return ConsensusHead.of(torch.stack(weights), torch.stack(biases), unit_features=len(spaces) == 1)


def generalization_score(spaces: Sequence[NDArray[np.float32]], groups: NDArray[np.int64], *, seed: int) -> float:
    """Return how well the groups of some images follow from those of others, the mean accuracy over the spaces.

    In each space, S × [N, D_s], the images are divided into FOLDS parts at random, and a multinomial logistic
    regression (C = 1) of the groups [N] of the others predicts those of each part. It ranks settings and numbers of
    steps without labels (the paper's generalization score); more groups have lower scores.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    right = 0
    for features in spaces:
        for part in np.array_split(order, min(FOLDS, len(order))):
            others = np.setdiff1d(order, part)
            right += int((_predicted(features[others], groups[others], features[part]) == groups[part]).sum())
    return right / (len(spaces) * len(groups))


def _predicted(
    features: NDArray[np.float32], groups: NDArray[np.int64], other: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the groups of other features [M, D] by a logistic regression of groups [N] on features [N, D]."""
    if (groups == groups[0]).all():
        return np.full(len(other), groups[0])
    model = LogisticRegression(C=1.0, max_iter=ITERATIONS).fit(features, groups)
    return np.asarray(model.predict(other), dtype=np.int64)
