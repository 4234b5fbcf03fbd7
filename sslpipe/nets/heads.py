"""What stands on a backbone: a projection, several cluster heads at once, or one linear layer."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sslpipe.io.settings import Count


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """A projection head. The defaults are those of SCAN's pretext: 512 → 512 → ReLU → 128, without batch norm."""

    kind: Literal["projection"] = "projection"
    hidden: Count = 512
    """Width of the hidden layers."""
    outputs: Count = 128
    depth: Count = 2
    """Number of linear layers; 1 is a linear map."""
    batch_norm: bool = False
    """Normalise the hidden layers (SimCLR, MoCo v3, BYOL) or not (SCAN)."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Linear cluster heads, which differ in their start values alone."""

    kind: Literal["clusters"] = "clusters"
    clusters: Count
    heads: Count = 1


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """One linear layer: a single cluster head, or a classifier."""

    kind: Literal["linear"] = "linear"
    outputs: Count


HeadSettings = ProjectionSettings | ClusterSettings | LinearSettings


class ProjectionHead(nn.Sequential):
    """A perceptron: [B, D] to [B, outputs], not L2-normalised."""

    def __init__(self, dimension: int, settings: ProjectionSettings) -> None:
        layers: list[nn.Module] = []
        for _ in range(settings.depth - 1):
            # The batch norm's shift is the bias.
            layers.append(nn.Linear(dimension, settings.hidden, bias=not settings.batch_norm))
            if settings.batch_norm:
                layers.append(nn.BatchNorm1d(settings.hidden))
            layers.append(nn.ReLU(inplace=True))
            dimension = settings.hidden
        super().__init__(*layers, nn.Linear(dimension, settings.outputs))
        self.settings = settings


class LinearHead(nn.Linear):
    """[B, D] to logits [B, outputs]."""

    def __init__(self, dimension: int, settings: LinearSettings) -> None:
        super().__init__(dimension, settings.outputs)
        self.settings = settings


class ClusterHeads(nn.Module):
    """H linear heads of C clusters as one matrix product: [B, D] to logits [H, B, C]."""

    def __init__(self, dimension: int, settings: ClusterSettings) -> None:
        super().__init__()
        self.settings = settings
        # torch's start values depend on the input's width alone, so they are those of H separate layers.
        self.linear = nn.Linear(dimension, settings.heads * settings.clusters)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] to logits [H, B, C]."""
        logits: Tensor = self.linear(features)
        return logits.view(len(features), self.settings.heads, self.settings.clusters).transpose(0, 1)

    @torch.no_grad()
    def single(self, head: int) -> LinearHead:
        """A copy of one head (0-based) on the same device: [B, D] to logits [B, C]."""
        clusters = self.settings.clusters
        weight = self.linear.weight
        one = LinearHead(weight.shape[1], LinearSettings(outputs=clusters)).to(weight.device)
        rows = slice(head * clusters, (head + 1) * clusters)
        one.weight.copy_(weight[rows])
        one.bias.copy_(self.linear.bias[rows])
        return one


Head = ProjectionHead | ClusterHeads | LinearHead | nn.Identity


def build_head(settings: HeadSettings | None, dimension: int) -> Head:
    """The head for features [B, dimension], its start values drawn from torch's global generator.

    None: the features themselves.
    """
    if isinstance(settings, ProjectionSettings):
        return ProjectionHead(dimension, settings)
    if isinstance(settings, ClusterSettings):
        return ClusterHeads(dimension, settings)
    if isinstance(settings, LinearSettings):
        return LinearHead(dimension, settings)
    return nn.Identity()
