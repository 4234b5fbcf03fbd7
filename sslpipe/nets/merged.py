"""The head of a model whose outputs are merged into fewer groups."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
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
        return MergedHead(nn.Linear(dimension, len(self.groups)), self)


class MergedHead(nn.Module):
    """A head whose outputs are merged into groups: a group's probability is the sum of its outputs'."""

    member: Tensor
    """float32 [outputs of the inner head, K]: 1 where an output belongs to a group, else 0."""

    def __init__(self, linear: nn.Module, settings: MergedSettings) -> None:
        """Share a head from features [B, D] to logits, of one output for each of the settings' groups.

        linear: a linear layer in the file of a model (SCAN); the level of another model, which is not saved, has that
        model's head. Raises UserError unless the groups are 0 to K - 1, each at least once.
        """
        super().__init__()
        if sorted(set(settings.groups)) != list(range(len(set(settings.groups)))):
            raise UserError(f"head: groups: {list(settings.groups)} found, expected 0 to K - 1, each at least once")
        self.settings = settings
        self.groups = len(set(settings.groups))
        self.linear = linear
        member = F.one_hot(torch.tensor(settings.groups), self.groups).float()
        self.register_buffer("member", member, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, K], the logarithms of the groups' probabilities."""
        with torch.autocast(features.device.type, enabled=False):
            probability: Tensor = self.linear(features.float()).softmax(dim=1) @ self.member
        # The probability of a group can underflow to 0 in float32.
        return probability.clamp_min(torch.finfo(torch.float32).tiny).log()

    @classmethod
    def of(cls, head: nn.Module, groups: Sequence[int]) -> "MergedHead":
        """Return a head with a copy of `head`, on its device; groups: the group of each of its outputs."""
        device = next(chain(head.parameters(), head.buffers())).device
        return cls(deepcopy(head), MergedSettings(groups=tuple(groups))).to(device)

    def ordered(self, order: Sequence[int]) -> "MergedHead":
        """Return a copy whose group i is group order[i] of this head."""
        place = {group: i for i, group in enumerate(order)}
        return MergedHead.of(self.linear, [place[group] for group in self.settings.groups])
