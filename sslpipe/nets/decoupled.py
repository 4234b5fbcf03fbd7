"""The head of Feature Decoupling (Feng et al. 2019)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.settings import Count


@dataclass(frozen=True, kw_only=True)
class DecoupledSettings:
    """Settings of a head that classifies rotations by half of the features and embeds the other half."""

    kind: Literal["decoupled"] = "decoupled"
    """The kind of head."""
    rotations: Count = 4
    """Number of rotations."""
    outputs: Count = 128
    """Dimension of the embedding."""

    def build(self, dimension: int) -> "DecoupledHead":
        """Return the head for features [B, dimension]."""
        return DecoupledHead(dimension, self)


class DecoupledHead(nn.Module):
    """The two linear layers of Feature Decoupling, each on half of the features (Feng et al. 2019, section 3)."""

    def __init__(self, dimension: int, settings: DecoupledSettings) -> None:
        super().__init__()
        self.settings = settings
        half = dimension // 2
        self.rotation = nn.Linear(half, settings.rotations)
        self.projection = nn.Linear(dimension - half, settings.outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to the unit embedding [B, outputs] of the rotation-invariant half."""
        return self.embed(self.halves(features)[1])

    def halves(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Split features [B, D] into the rotation half [B, D // 2] and the rotation-invariant half [B, D - D // 2]."""
        covariant, invariant = torch.split(features, [self.rotation.in_features, self.projection.in_features], dim=1)
        return covariant, invariant

    def embed(self, invariant: Tensor) -> Tensor:
        """Map invariant halves [B, D - D // 2] to L2-normalised embeddings [B, outputs]."""
        return F.normalize(self.projection(invariant), dim=1)
