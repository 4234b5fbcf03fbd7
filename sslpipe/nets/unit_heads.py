"""Heads of clusters found on cached features: linear heads whose probabilities are averaged, and centroids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.settings import Count


@dataclass(frozen=True, kw_only=True)
class ConsensusSettings:
    """Settings of several linear heads whose probabilities are averaged."""

    kind: Literal["consensus"] = "consensus"
    """The kind of head."""
    outputs: Count
    """Number of clusters or classes."""
    heads: Count = 1
    """Number of linear heads."""
    unit_features: bool = False
    """Whether the features are L2-normalised first."""

    def build(self, dimension: int) -> "ConsensusHead":
        """Return the head for features [B, dimension]."""
        return ConsensusHead(dimension, self)


@dataclass(frozen=True, kw_only=True)
class CentroidSettings:
    """Settings of a head of centroids in the space of whitened principal components."""

    kind: Literal["centroids"] = "centroids"
    """The kind of head."""
    outputs: Count
    """Number of clusters."""
    components: Count
    """Number of principal components."""

    def build(self, dimension: int) -> "CentroidHead":
        """Return the head for features [B, dimension]."""
        return CentroidHead(dimension, self)


class ConsensusHead(nn.Module):
    """H aligned linear heads, computed by one matrix product: the logarithm of their mean probability."""

    def __init__(self, dimension: int, settings: ConsensusSettings) -> None:
        super().__init__()
        self.settings = settings
        self.linear = nn.Linear(dimension, settings.heads * settings.outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, K], the logarithms of the mean probabilities."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            if self.settings.unit_features:
                features = F.normalize(features, dim=1)
            logits = self.linear(features).view(-1, self.settings.heads, self.settings.outputs)
            log: Tensor = logits.log_softmax(dim=2).logsumexp(dim=1) - math.log(self.settings.heads)
            return log

    @classmethod
    @torch.no_grad()
    def of(
        cls, weight: Tensor, bias: Tensor, *, order: NDArray[Any] | None = None, unit_features: bool
    ) -> "ConsensusHead":
        """Return a head of H linear heads on the device of their weights.

        weight: [H, K, D]. bias: [H, K]. order: [H, K], the output of each head that becomes output k, as `align_heads`
        returns it; None: the heads agree already.
        """
        heads, outputs, dimension = weight.shape
        settings = ConsensusSettings(outputs=outputs, heads=heads, unit_features=unit_features)
        head = cls(dimension, settings).to(weight.device)
        if order is not None:
            index = torch.as_tensor(order, device=weight.device)
            weight = weight.gather(1, index[:, :, None].expand_as(weight))
            bias = bias.gather(1, index)
        head.linear.weight.copy_(weight.flatten(0, 1))
        head.linear.bias.copy_(bias.flatten())
        return head

    def ordered(self, order: Sequence[int]) -> "ConsensusHead":
        """Return a copy whose output i is output order[i] of this head."""
        weight, bias = stacked(self.linear, self.settings.heads, self.settings.outputs)
        kept = list(order)
        return ConsensusHead.of(weight[:, kept], bias[:, kept], unit_features=self.settings.unit_features)


def stacked(layer: nn.Linear, heads: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Return views of the weights [H, K, D] and biases [H, K] of a layer that has the outputs of H heads in order."""
    return layer.weight.view(heads, outputs, -1), layer.bias.view(heads, outputs)


class CentroidHead(nn.Module):
    """k-means on whitened principal components of unit features, with probabilities.

    A feature is L2-normalised, mapped to whitened components, L2-normalised again (z), and compared with the centroids
    c_k: the logits are (z·c_k - |c_k|²/2) / τ, which differ from -|z - c_k|² / (2τ) by the same number for all k. So
    the probabilities are those of a mixture of equal Gaussians of variance τ around the centroids.
    """

    def __init__(self, dimension: int, settings: CentroidSettings) -> None:
        super().__init__()
        self.settings = settings
        self.components = nn.Linear(dimension, settings.components)
        self.centroids = nn.Linear(settings.components, settings.outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, K]."""
        with torch.autocast(features.device.type, enabled=False):
            components = self.components(F.normalize(features.float(), dim=1))
            logits: Tensor = self.centroids(F.normalize(components, dim=1))
            return logits

    @classmethod
    @torch.no_grad()
    def of(cls, mean: Tensor, whitening: Tensor, centers: Tensor, *, temperature: float) -> "CentroidHead":
        """Return the head of centres [K, C] for unit features of this mean [D], mapped by `whitening` [D, C].

        temperature: τ above.
        """
        settings = CentroidSettings(outputs=len(centers), components=whitening.shape[1])
        head = cls(len(mean), settings).to(mean.device)
        head.components.weight.copy_(whitening.T)
        head.components.bias.copy_(-(mean @ whitening))
        head.centroids.weight.copy_(centers / temperature)
        head.centroids.bias.copy_(-centers.square().sum(dim=1) / (2 * temperature))
        return head

    @torch.no_grad()
    def ordered(self, order: Sequence[int]) -> "CentroidHead":
        """Return a copy whose output i is output order[i] of this head."""
        head = CentroidHead(self.components.in_features, self.settings).to(self.components.weight.device)
        head.components.load_state_dict(self.components.state_dict())
        head.centroids.weight.copy_(self.centroids.weight[list(order)])
        head.centroids.bias.copy_(self.centroids.bias[list(order)])
        return head
