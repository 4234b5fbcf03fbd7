"""All communication between processes, the identity on one (reference: torch.distributed)."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if size() > 1 else 0


class _Gather(torch.autograd.Function):
    """Concatenation over processes; the gradient of every process's copy flows back to the rows' owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(size())[rank()]


def gather(x: Tensor) -> Tensor:
    """[B, ...] of each process → [size · B, ...] on all, with gradient.

    A loss computed on the gathered rows and averaged over processes (as DDP does with gradients) has exactly the
    gradient of the one-process loss on the whole batch.
    """
    return x if size() == 1 else _Gather.apply(x)
