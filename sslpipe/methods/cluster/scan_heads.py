"""SCAN's linear heads on stored features (Van Gansbeke et al. 2020, arXiv:2005.12320, section 2.2), and their mean.

The network is not trained: it is that of the start, with a head whose probabilities are the mean of all heads'.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, NonNegative, Positive, TwoOrMore
from sslpipe.methods._heads import CHUNK, Pairs, losses_of, train_heads
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.methods.cluster._on_features import logits_of
from sslpipe.methods.cluster._problem import Problem
from sslpipe.metrics.consensus import align_heads
from sslpipe.metrics.pca import Pca, fit_pca
from sslpipe.nets.heads import ClusterHeads, ClusterSettings
from sslpipe.nets.network import Network
from sslpipe.nets.unit_heads import ConsensusHead, stacked


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults without another source: own choice, on letters and drawings (docs/results.md)."""

    clusters: TwoOrMore
    """C, the number of clusters."""
    heads: TwoOrMore = 10
    """Number of heads, which differ in their initial weights (SCAN's public code on ImageNet: 10)."""
    answer: Literal["consensus", "best"] = "consensus"
    """The model's probabilities: consensus, the mean of all heads, each aligned to the best one; or those of the best
    one, the head with the lowest loss over all training images (SCAN)."""
    neighbors: Count = 20
    """K of the mined neighbours (SCAN: 20 on CIFAR, 50 on ImageNet)."""
    entropy_weight: NonNegative = 5.0
    """λ of eq. 2 (SCAN's public code)."""
    components: Count = 256
    """Number of principal components of the L2-normalised features that the heads see."""
    steps: Count = 600
    """Training steps of all heads together."""
    batch: Count = 512
    """Pairs of an image and a neighbour in a step."""
    lr: Positive = 5e-3
    """Initial learning rate of Adam, with a cosine schedule; the components together have standard deviation 1."""
    compare: CompareSettings = CompareSettings()
    """The comparison of the model with plain baselines."""
    fit: None = None
    """The heads are trained when the method is built, in seconds."""


class Method(nn.Module):
    """The start's network with a head of clusters on its unit features."""

    def __init__(self, settings: Settings, problem: Problem) -> None:
        super().__init__()
        train, self.network = problem.train, problem.network
        assert train.features is not None
        self.features = train.features
        if settings.clusters > len(train.features):
            raise UserError(f"cluster.clusters: {settings.clusters} is more than {len(train.features)} training images")
        pca = fit_pca(train.features, settings.components)
        components = torch.from_numpy(pca.transform(train.features)).to(train.neighbors.device)
        scale = components.std().clamp_min(1e-12)
        pairs = Pairs(components / scale, train.neighbors[:, : settings.neighbors])
        generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
        heads = train_heads(
            pairs,
            ClusterSettings(clusters=settings.clusters, heads=settings.heads),
            entropy_weight=settings.entropy_weight,
            lr=settings.lr,
            steps=settings.steps,
            batch=settings.batch,
            generator=generator,
        )
        self.losses = losses_of(pairs, heads, entropy_weight=settings.entropy_weight)
        self.network.head = _on_unit_features(heads, self.losses, settings.answer, pca, scale, pairs.features)

    def selected(self) -> Network:
        """The network to keep."""
        return self.network

    def training_logits(self) -> Tensor:
        """Return the logits [N, C] of the training images, computed from their stored features."""
        return logits_of(copy.deepcopy(self.network.head).cpu(), self.features)

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """The losses of the heads over all training images, the one row of the history."""
        losses = self.losses
        return {"loss/best": losses.min().item(), "loss/mean": losses.mean().item(), "loss/worst": losses.max().item()}


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
