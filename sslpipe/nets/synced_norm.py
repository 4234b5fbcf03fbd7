"""Batch norms over the batch of all processes (as torch's SyncBatchNorm, which CPUs and timm's layers do not have)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sslpipe.data import world


def synced_batch_norms() -> AbstractContextManager[Any]:
    """Return a block in which batch norms are those of all processes, if they share the batch."""
    return SyncedBatchNorms() if world.is_shared() else nullcontext()


class SyncedBatchNorms(TorchFunctionMode):
    """Within this block batch norms in training mode normalise by the mean and the variance of all processes' rows."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace torch's batch norm, which nn.BatchNorm2d and timm's layers call."""
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm`, over all processes if it is training."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    ones = x.new_ones(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    output, mean, variance = _Normalize.apply(
        x, ones if weight is None else weight, ones * 0 if bias is None else bias, eps
    )
    if running_mean is not None and running_var is not None:
        count = world.total(x.numel() // x.shape[1])
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    return output  # type: ignore[no-any-return]


class _Normalize(torch.autograd.Function):
    """Normalise [B, C, …] by channel: (x - mean) / sqrt(variance + ε) · weight + bias, and mean and variance [C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        over = [dim for dim in range(x.ndim) if dim != 1]
        count = world.total(x.numel() // x.shape[1])
        mean = world.sum_over_processes(wide.sum(over)) / count
        centered = wide - _by_channel(mean, x)
        variance = world.sum_over_processes(centered.square().sum(over)) / count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.count, ctx.over = count, over
        ctx.mark_non_differentiable(mean, variance)
        output = centered.mul_(_by_channel(scale * weight, x)).add_(_by_channel(bias, x))
        return output.to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        gradient = gradients[0].to(mean.dtype)
        normalized = (x.to(mean.dtype) - _by_channel(mean, x)) * _by_channel(scale, x)
        own = torch.stack([gradient.sum(ctx.over), (gradient * normalized).sum(ctx.over)])
        plain, along = world.sum_over_processes(own.clone()) / ctx.count
        towards = gradient - _by_channel(plain, x) - normalized * _by_channel(along, x)
        return (
            (towards * _by_channel(scale * weight, x)).to(x.dtype),
            own[1].to(weight.dtype),
            own[0].to(weight.dtype),
            None,
        )


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    """Return values [C] in a shape that is broadcast over [B, C, …]."""
    return values.view(1, -1, *[1] * (like.ndim - 2))
