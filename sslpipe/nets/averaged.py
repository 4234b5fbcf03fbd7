"""Exponential moving average of a network's weights (Polyak averaging; the teacher of Tarvainen & Valpola 2017)."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def warm_decay(step: int, *, decay: float) -> float:
    """Return the decay for a step (0-based): min(decay, (1 + step) / (10 + step)).

    A small decay in the first steps removes the initial weights from the average quickly (the rule of TensorFlow's
    ExponentialMovingAverage; "Boosting SSL", arXiv:2012.00504, has it in its public code, FixMatch does not).
    """
    return min(decay, (1 + step) / (10 + step))


class AveragedWeights(nn.Module, Generic[M]):
    """A copy of a module with averaged weights; it stays in eval mode and computes no gradients.

    Parameters and floating-point buffers are averaged: average ← decay · average + (1 - decay) · module. The running
    statistics of batch norms are averaged and not copied, because they must match the averaged weights, which lag
    behind the module's weights. Integer buffers are copied. With `own_statistics` buffers are neither averaged nor
    copied: in training, the copy's batch norms normalise by the batch and update running statistics of their own (the
    target network of BYOL, arXiv:2006.07733, and the teacher of DINO, arXiv:2104.14294). The state_dict contains the
    averaged module under the prefix `module.`.
    """

    module: M

    def __init__(self, module: M, *, own_statistics: bool = False) -> None:
        """Copy `module`; the average starts with its weights."""
        super().__init__()
        self.own_statistics = own_statistics
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.train(module.training)

    def train(self, mode: bool = True) -> "AveragedWeights[M]":
        """Set the mode of batch norms with statistics of their own; all other layers stay in eval mode."""
        super().train(False)
        if self.own_statistics:
            self.module.train(mode)  # a network keeps its frozen parts in eval mode
            for layer in self.module.modules():
                if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                    layer.training = False
        return self

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """Return the output of the averaged module, without gradients."""
        return self.module(*inputs)

    @torch.no_grad()
    def update(self, module: nn.Module, *, decay: float) -> None:
        """Move the average towards `module`, which has the same structure as the module that was copied."""
        own, other = (_state(each, buffers=not self.own_statistics) for each in (self.module, module))
        pairs = list(zip(own, other, strict=True))
        averaged = [(a, b) for a, b in pairs if a.is_floating_point()]
        copied = [(a, b) for a, b in pairs if not a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in averaged], [b for _, b in averaged], 1.0 - decay)
        if copied:
            torch._foreach_copy_([a for a, _ in copied], [b for _, b in copied])


def _state(module: nn.Module, *, buffers: bool) -> list[Tensor]:
    return [*module.parameters(), *(module.buffers() if buffers else ())]
