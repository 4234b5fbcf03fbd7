"""SCAN's linear heads on stored features (Van Gansbeke et al. 2020, arXiv:2005.12320, section 2.2), and their mean.

The network is not trained: it is that of the start, with a head whose probabilities are the mean of all heads'.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sslpipe.io.settings import Count, NonNegative, Positive, TwoOrMore
from sslpipe.methods._heads import CHUNK, Pairs, losses_of, train_heads
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.methods.cluster._levels import LevelsSettings
from sslpipe.methods.cluster._on_features import OnFeatures
from sslpipe.metrics.consensus import align_heads
from sslpipe.metrics.pca import Pca
from sslpipe.nets.heads import ClusterHeads, ClusterSettings, Head
from sslpipe.nets.unit_heads import ConsensusHead, stacked


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults without another source: own choice, on letters and drawings (docs/results.md)."""

    clusters: TwoOrMore
    """C, the number of clusters. More: smaller and finer groups, which may split a class."""
    heads: TwoOrMore = 10
    """Number of heads, which differ in their initial weights (SCAN's public code on ImageNet: 10). More: a steadier
    consensus and a better best head, slower."""
    answer: Literal["consensus", "best"] = "consensus"
    """The model's probabilities: consensus, the mean of all heads, each aligned to the best one; or those of the best
    one, the head with the lowest loss over all training images (SCAN)."""
    neighbors: Count = 20
    """K of the mined neighbours (SCAN: 20 on CIFAR, 50 on ImageNet). More: links between more distant images, more of
    them wrong."""
    entropy_weight: NonNegative = 5.0
    """λ of eq. 2 (SCAN's public code). Larger: clusters of more equal sizes, and no collapse to a few; at 0 all images
    may end in one."""
    components: Count = 256
    """Number of principal components of the L2-normalised features that the heads see. More: finer differences between
    images, also of no interest, and slower."""
    steps: Count = 1500
    """Training steps of all heads together. More: a lower loss, in proportionally more time."""
    batch: Count = 512
    """Pairs of an image and a neighbour in a step. Larger: less noise in a step, and a better estimate of the clusters'
    sizes, slower."""
    lr: Positive = 5e-3
    """Initial learning rate of Adam, with a cosine schedule; the components together have standard deviation 1. Larger:
    faster learning, until the heads no longer settle."""
    compare: CompareSettings = CompareSettings()
    """The comparison of the model with plain baselines."""
    levels: LevelsSettings = LevelsSettings()
    """How the groups merge into fewer."""
    fit: None = None
    """There is no training loop of the engine: all heads are trained at once, in seconds."""


class Method(OnFeatures[Settings]):
    """The start's network with a head of clusters on its unit features."""

    def find(self) -> tuple[Head, dict[str, float]]:
        """Train all heads; return the one that is kept, and the losses of all over all training images."""
        settings = self.settings
        pca = self.pca or self.train_set.pca(settings.components)
        components = torch.from_numpy(pca.transform(self.features)).to(self.train_set.neighbors.device)
        scale = components.std().clamp_min(1e-12)
        pairs = Pairs(components / scale, self.train_set.neighbors[:, : settings.neighbors])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            heads = train_heads(
                pairs,
                ClusterSettings(clusters=settings.clusters, heads=settings.heads),
                entropy_weight=settings.entropy_weight,
                lr=settings.lr,
                steps=settings.steps,
                batch=settings.batch,
                generator=torch.Generator().manual_seed(self.seed),
            )
        losses = losses_of(pairs, heads, entropy_weight=settings.entropy_weight)
        kept = _on_unit_features(heads, losses, settings.answer, pca, scale, pairs.features)
        columns = {"best": losses.min(), "mean": losses.mean(), "worst": losses.max()}
        return kept.cpu(), {f"loss/{name}": value.item() for name, value in columns.items()}


@torch.no_grad()
def _on_unit_features(
    heads: ClusterHeads, losses: Tensor, answer: str, pca: Pca, scale: Tensor, components: Tensor
) -> ConsensusHead:
    """Return the head that is kept, with the map to scaled components folded in.

    components: [N, C] of the training images, by which heads are aligned.
    """
    weight, bias = stacked(heads.linear, heads.settings.heads, heads.settings.clusters)
    basis, mean = (torch.from_numpy(each).to(weight.device) for each in (pca.basis, pca.mean))
    weight = (weight / scale) @ basis.T  # [H, C, D]
    bias = bias - weight @ mean
    best = int(losses.argmin())
    if answer == "best":
        return ConsensusHead.of(weight[best : best + 1], bias[best : best + 1], unit_features=True)
    order = align_heads((heads(part) for part in torch.split(components, CHUNK)), best)
    return ConsensusHead.of(weight, bias, order=order, unit_features=True)
