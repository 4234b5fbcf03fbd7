"""The head of clusters that were merged."""

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
    """Groups that are each several of a linear layer's outputs: over-clustering, merged."""

    kind: Literal["merged"] = "merged"
    groups: tuple[CountOrZero, ...]
    """Of each of the layer's outputs; 0 to K - 1, each at least once."""


class MergedHead(nn.Module):
    """A linear layer, of whose outputs several make up a group: the group's probability is the sum of theirs."""

    member: Tensor

    def __init__(self, dimension: int, settings: MergedSettings) -> None:
        super().__init__()
        if sorted(set(settings.groups)) != list(range(len(set(settings.groups)))):
            raise UserError(f"head: groups: {list(settings.groups)} found, expected 0 to K - 1, each at least once")
        self.settings = settings
        self.groups = len(set(settings.groups))
        self.linear = nn.Linear(dimension, len(settings.groups))
        member = F.one_hot(torch.tensor(settings.groups), self.groups).float()
        self.register_buffer("member", member, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] to logits [B, K]: logarithms of the groups' probabilities."""
        with torch.autocast(features.device.type, enabled=False):
            probability: Tensor = self.linear(features.float()).softmax(dim=1) @ self.member
        # A group whose outputs are all far below the others' has a probability of 0 in float32.
        return probability.clamp_min(torch.finfo(torch.float32).tiny).log()

    @classmethod
    def of(cls, layer: nn.Linear, groups: Sequence[int]) -> "MergedHead":
        """A layer with its outputs in groups, on the same device."""
        head = cls(layer.in_features, MergedSettings(groups=tuple(groups))).to(layer.weight.device)
        head.linear.load_state_dict(layer.state_dict())
        return head

    @torch.no_grad()
    def ordered(self, order: Sequence[int]) -> "MergedHead":
        """A copy whose group i is this one's group order[i]."""
        place = {group: i for i, group in enumerate(order)}
        return MergedHead.of(self.linear, [place[group] for group in self.settings.groups])
