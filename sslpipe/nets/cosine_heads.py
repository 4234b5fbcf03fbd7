"""Perceptrons whose unit embedding is compared with unit prototypes: one head, and several in batched products."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.settings import Count, Positive

DEVIATION = 0.02
"""Standard deviation of the initial weights, from a truncated normal distribution (DINO, arXiv:2104.14294; TEMI,
arXiv:2303.17896)."""


@dataclass(frozen=True, kw_only=True)
class CosineSettings:
    """Settings of a perceptron with unit prototypes of the clusters; the defaults are TEMI's (arXiv:2303.17896)."""

    kind: Literal["cosines"] = "cosines"
    """The kind of head."""
    outputs: Count
    """Number of clusters."""
    hidden: Count = 512
    """Width of the hidden layer."""
    embedding: Count = 256
    """Dimension of the embedding."""
    temperature: Positive = 0.1
    """Temperature that the cosines are divided by."""

    def build(self, dimension: int) -> "CosineHead":
        """Return the head for features [B, dimension]."""
        return CosineHead(dimension, self)


class CosineHead(nn.Module):
    """A layer with GELU, a linear layer, L2 normalisation, and cosines with unit prototypes over a temperature."""

    def __init__(self, dimension: int, settings: CosineSettings) -> None:
        super().__init__()
        self.settings = settings
        self.hidden = nn.Linear(dimension, settings.hidden)
        self.embedding = nn.Linear(settings.hidden, settings.embedding)
        self.prototypes = nn.Linear(settings.embedding, settings.outputs, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, K]."""
        with torch.autocast(features.device.type, enabled=False):
            embedding = self.embedding(F.gelu(self.hidden(features.float())))
            cosines = F.linear(F.normalize(embedding, dim=1), F.normalize(self.prototypes.weight, dim=1))
            return cosines / self.settings.temperature

    @torch.no_grad()
    def ordered(self, order: Sequence[int]) -> "CosineHead":
        """Return a copy whose output i is output order[i] of this head."""
        head = CosineHead(self.hidden.in_features, self.settings).to(self.hidden.weight.device)
        head.load_state_dict(self.state_dict())
        head.prototypes.weight.copy_(self.prototypes.weight[list(order)])
        return head


class CosineHeads(nn.Module):
    """H heads as CosineHead that differ only in their initial weights: features [B, D] to logits [H, B, K]."""

    def __init__(self, dimension: int, heads: int, settings: CosineSettings) -> None:
        super().__init__()
        self.settings = settings
        self.hidden = _initial(heads, settings.hidden, dimension)
        self.hidden_bias = nn.Parameter(torch.zeros(heads, settings.hidden))
        self.embedding = _initial(heads, settings.embedding, settings.hidden)
        self.embedding_bias = nn.Parameter(torch.zeros(heads, settings.embedding))
        self.prototypes = _initial(heads, settings.outputs, settings.embedding)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [H, B, K]."""
        hidden = F.gelu(F.linear(features, self.hidden.flatten(0, 1), self.hidden_bias.flatten()))
        by_head = hidden.view(len(features), *self.hidden_bias.shape).transpose(0, 1)
        embedding = torch.baddbmm(self.embedding_bias[:, None], by_head, self.embedding.transpose(1, 2))
        prototypes = F.normalize(self.prototypes, dim=2).transpose(1, 2)
        return torch.bmm(F.normalize(embedding, dim=2), prototypes) / self.settings.temperature

    @torch.no_grad()
    def single(self, head: int, *, mean: Tensor, deviation: Tensor, basis: Tensor | None = None) -> CosineHead:
        """Return a copy of one head (0-based) on the same device, for features that are not standardised.

        mean, deviation: [D], by which the features of this module were standardised; both become part of the layer.
        basis: [D, C], by which they were multiplied then; None: by nothing.
        """
        one = CosineHead(len(mean), self.settings).to(self.hidden.device)
        weight = self.hidden[head] if basis is None else self.hidden[head] @ basis.T
        weight = weight / deviation
        one.hidden.weight.copy_(weight)
        one.hidden.bias.copy_(self.hidden_bias[head] - weight @ mean)
        one.embedding.weight.copy_(self.embedding[head])
        one.embedding.bias.copy_(self.embedding_bias[head])
        one.prototypes.weight.copy_(self.prototypes[head])
        return one


def _initial(*shape: int) -> nn.Parameter:
    """Return weights of a truncated normal distribution, from torch's global generator."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=DEVIATION))
