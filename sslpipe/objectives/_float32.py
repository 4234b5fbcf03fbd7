"""Objectives in float32 under autocast, too."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
HALF = (torch.bfloat16, torch.float16)


def in_float32(objective: Callable[P, R]) -> Callable[P, R]:
    """Return the objective without autocast, its tensors of half precision converted to float32.

    Under autocast its matrix products would be computed in bfloat16, which rounds a cosine by up to 0.004: divided by a
    temperature of 0.07 that is 6 % of a probability. In float32 they cost little beside the network. The first argument
    is a tensor; its device is the one whose autocast is turned off.
    """

    @wraps(objective)
    def computed(*given: P.args, **named: P.kwargs) -> R:
        first = given[0]
        assert isinstance(first, Tensor)
        with torch.autocast(first.device.type, enabled=False):
            return objective(*map(_full, given), **{name: _full(value) for name, value in named.items()})  # type: ignore[arg-type]

    return computed


def _full(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value
