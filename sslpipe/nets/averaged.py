"""Exponential moving average of a network's weights (Polyak averaging; the teacher of Tarvainen & Valpola 2017)."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def warm_decay(step: int, *, decay: float) -> float:
    """The decay for a step (0-based): min(decay, (1 + step) / (10 + step)).

    The short memory of the first steps lets the average forget the start values (TensorFlow's and FixMatch's warm-up).
    """
    return min(decay, (1 + step) / (10 + step))


class AveragedWeights(nn.Module, Generic[M]):
    """A copy of a module that follows it slowly; in eval mode for good, without gradients.

    Parameters and floating-point buffers are averaged: average ← decay · average + (1 - decay) · module. The batch
    norms' running statistics are averaged too, not copied, because they have to belong to the same point in training
    as the weights that give rise to them, and the averaged weights lag behind. Whole-number buffers are copied.
    With `own_statistics` buffers are left alone: in training its batch norms use the batch's statistics and keep
    running ones of their own (the target of BYOL, the teacher of DINO).
    The state_dict holds the average whole, under `module.`.
    """

    module: M

    def __init__(self, module: M, *, own_statistics: bool = False) -> None:
        """module: copied; the copy starts equal to it."""
        super().__init__()
        self.own_statistics = own_statistics
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.train(module.training)

    def train(self, mode: bool = True) -> "AveragedWeights[M]":
        """Stay in eval mode, but for batch norms with statistics of their own."""
        super().train(False)
        if self.own_statistics:
            for layer in self.module.modules():
                if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                    layer.train(mode)
        return self

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the averaged module gives, without gradients."""
        return self.module(*inputs)

    @torch.no_grad()
    def update(self, module: nn.Module, *, decay: float) -> None:
        """Move the average towards `module`, which has the structure of the one it was made of."""
        mine, theirs = (_state(each, buffers=not self.own_statistics) for each in (self.module, module))
        pairs = list(zip(mine, theirs, strict=True))
        averaged = [(a, b) for a, b in pairs if a.is_floating_point()]
        copied = [(a, b) for a, b in pairs if not a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in averaged], [b for _, b in averaged], 1.0 - decay)
        if copied:
            torch._foreach_copy_([a for a, _ in copied], [b for _, b in copied])


def _state(module: nn.Module, *, buffers: bool) -> list[Tensor]:
    return [*module.parameters(), *(module.buffers() if buffers else ())]
