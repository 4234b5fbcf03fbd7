"""The head of a model whose clusters were merged (over-clustering)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.errors import UserError
from sslpipe.io.settings import CountOrZero


@dataclass(frozen=True, kw_only=True)
class MergedSettings:
    """Settings of a head that merges the outputs of a linear layer into K groups."""

    kind: Literal["merged"] = "merged"
    """The kind of head."""
    groups: tuple[CountOrZero, ...]
    """Group of each of the layer's outputs: 0 to K - 1, each at least once."""

    def build(self, dimension: int) -> "MergedHead":
        """Return the head for features [B, dimension]."""
        return MergedHead(dimension, self)


class MergedHead(nn.Module):
    """A linear layer whose outputs are merged into groups: a group's probability is the sum of its outputs'."""

    member: Tensor
    """float32 [outputs of the layer, K]: 1 where an output belongs to a group, else 0."""

    def __init__(self, dimension: int, settings: MergedSettings) -> None:
        """Build the head; raises UserError unless the groups are 0 to K - 1, each at least once."""
        super().__init__()
        if sorted(set(settings.groups)) != list(range(len(set(settings.groups)))):
            raise UserError(f"head: groups: {list(settings.groups)} found, expected 0 to K - 1, each at least once")
        self.settings = settings
        self.groups = len(set(settings.groups))
        self.linear = nn.Linear(dimension, len(settings.groups))
        member = F.one_hot(torch.tensor(settings.groups), self.groups).float()
        self.register_buffer("member", member, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, K], the logarithms of the groups' probabilities."""
        with torch.autocast(features.device.type, enabled=False):
            probability: Tensor = self.linear(features.float()).softmax(dim=1) @ self.member
        # The probability of a group can underflow to 0 in float32.
        return probability.clamp_min(torch.finfo(torch.float32).tiny).log()

    @classmethod
    def of(cls, layer: nn.Linear, groups: Sequence[int]) -> "MergedHead":
        """Return a head with the weights of `layer`, on its device; groups: the group of each of its outputs."""
        head = cls(layer.in_features, MergedSettings(groups=tuple(groups))).to(layer.weight.device)
        head.linear.load_state_dict(layer.state_dict())
        return head

    @torch.no_grad()
    def ordered(self, order: Sequence[int]) -> "MergedHead":
        """Return a copy whose group i is group order[i] of this head."""
        place = {group: i for i, group in enumerate(order)}
        return MergedHead.of(self.linear, [place[group] for group in self.settings.groups])
