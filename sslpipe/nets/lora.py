"""Low-rank updates of a network's weights (LoRA, Hu et al. 2021, arXiv:2106.09685, section 4)."""

import copy
from collections.abc import Iterator
from math import sqrt
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

M = TypeVar("M", bound=nn.Module)
WEIGHT = "weight"
"""Name of the weight that is updated, in all layers that are."""


class LowRankUpdate(nn.Module):
    """A map from a weight W to W + α/r · B A, in the shape of W.

    A is [r, inputs] and begins as the weight of torch's linear layers does (public code of LoRA), B is [outputs, r] and
    begins at 0, so that the first forward is that of W. A layer of fewer inputs or outputs than r has rank as low as
    these.
    """

    def __init__(self, weight: Tensor, *, rank: int, alpha: float) -> None:
        """weight: [outputs, inputs, …], with one value for each output and input."""
        super().__init__()
        outputs, inputs = weight.shape[:2]
        self.scale = alpha / rank
        rank = min(rank, outputs, inputs)
        self.a = nn.Parameter(weight.new_empty(rank, inputs))
        self.b = nn.Parameter(weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Map the weight W to the updated one."""
        with torch.autocast(weight.device.type, enabled=False):  # in float32, as it is merged
            return weight + (self.scale * self.b @ self.a).view(weight.shape)


def updatable(module: nn.Module) -> list[nn.Module]:
    """Return the layers with a matrix for a weight: the linear ones, and convolutions of 1×1 pixel without groups."""
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
        or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1)
    ]


def add_updates(module: nn.Module, *, rank: int, alpha: float) -> int:
    """Give all layers of `updatable` a low-rank update, drawn from torch's global generator; return their number."""
    layers = updatable(module)
    for layer in layers:
        weight = getattr(layer, WEIGHT)
        parametrize.register_parametrization(layer, WEIGHT, LowRankUpdate(weight, rank=rank, alpha=alpha))
    return len(layers)


def merged(module: M) -> M:
    """Return a copy whose updates are added to its weights, with the names of the plain weights.

    A module without updates is returned as it is.
    """
    if next(_updated(module), None) is None:
        return module
    plain = copy.deepcopy(module)
    for layer in list(_updated(plain)):
        weight = layer.get_parameter(f"parametrizations.{WEIGHT}.original")
        whole = getattr(layer, WEIGHT).detach()
        # As torch's remove_parametrizations, which also takes the weight from the class that all copies share.
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        del layer.parametrizations
        layer.register_parameter(WEIGHT, nn.Parameter(whole, requires_grad=weight.requires_grad))
    return plain


def plain_name(name: str) -> str:
    """Return the name of a weight without its update, also for the names of W, A and B: layer.weight."""
    layer, mark, _ = name.partition(f".parametrizations.{WEIGHT}.")
    return f"{layer}.{WEIGHT}" if mark else name


def _updated(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that have an update."""
    for layer in module.modules():
        if parametrize.is_parametrized(layer, WEIGHT) and isinstance(
            layer.get_submodule(f"parametrizations.{WEIGHT}.0"), LowRankUpdate
        ):
            yield layer
