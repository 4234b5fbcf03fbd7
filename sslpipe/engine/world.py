"""Communication between training processes, by torch.distributed; with a single process, the identity."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


class _Gather(torch.autograd.Function):
    """Concatenation over processes; the gradient of a row is the sum of its gradients in all processes."""

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
    """Concatenate the tensors [B, ...] of all processes to [size · B, ...], differentiably.

    If every process computes the loss of the gathered rows and gradients are averaged over processes, as by
    DistributedDataParallel, the gradient equals that of a single process with the whole batch.
    """
    return x if size() == 1 else _Gather.apply(x)
