"""Training by several processes, one for each device, each with its rows of every batch; with one, the identity.

Within `shared_batch` process r of N has the rows r, r + N, r + 2N, … of the batch, and what it computes of them, up to
the network's features, which `gather` then brings to all. Of a concatenation of batches a process has its rows in the
same way, since N divides the size of each.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sslpipe.io.errors import ProcessLostError, UserError
from sslpipe.io.own_process import own_number, processes_started
from sslpipe.io.processes import MEETING

TIMEOUT = "SSLPIPE_TIMEOUT"
"""Environment variable with the seconds after which a process that does not answer ends the others; 600 by default."""
_sharing = False


def size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0; process 0 alone writes and prints."""
    return dist.get_rank() if size() > 1 else 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Meet the other processes for the time of a block, by NCCL for CUDA and by gloo for CPUs.

    Those of one machine find each other by a file, torchrun's by MASTER_ADDR and MASTER_PORT.
    """
    if processes_started() == 1:
        yield
        return
    seconds = os.environ.get(TIMEOUT, "600")
    try:
        timeout = timedelta(seconds=float(seconds))
    except (ValueError, OverflowError):
        timeout = timedelta(0)
    if timeout <= timedelta(0):
        raise UserError(f"{TIMEOUT}: '{seconds}' found, expected seconds above 0")
    meeting = os.environ.get(MEETING)
    with _found():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{meeting}" if meeting else "env://",
            rank=own_number(),
            world_size=processes_started(),
            timeout=timeout,
        )
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _found() -> Iterator[None]:
    """Raise ProcessLostError where torch.distributed fails."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        raise ProcessLostError(str(error)) from error


@contextmanager
def shared_batch() -> Iterator[None]:
    """Let each process have its own rows of a batch during the block."""
    global _sharing
    before, _sharing = _sharing, size() > 1
    try:
        yield
    finally:
        _sharing = before


def is_shared() -> bool:
    """Whether this process has only its own rows of the batch."""
    return _sharing


def own(rows: Tensor) -> Tensor:
    """Return this process's rows of a tensor [B, …]."""
    return rows[own_rows(0)]


def own_rows(start: int) -> slice:
    """Return which rows are this process's in a part of the batch that begins at row `start`."""
    return slice((rank() - start) % size(), None, size()) if _sharing else slice(None)


def total(count: int) -> int:
    """Return the number of rows of all processes, of which this one has `count`."""
    return count * size() if _sharing else count


def gather(rows: Tensor) -> Tensor:
    """Return the rows [B, …] of all processes, of which this one has `rows` [B / N, …], in the batch's order.

    All processes go on to compute the same loss from them. A row's gradient goes back to its own process, N times as
    large, so that the mean of the weights' gradients over the processes (`average_gradients`) is the gradient of one
    process with the whole batch, for the weights before and after the call.
    """
    return _Gather.apply(rows) if _sharing else rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return of_all_processes(rows).transpose(0, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0][rank() :: size()] * size()


def of_all_processes(value: Tensor) -> Tensor:
    """Return a tensor of all processes, [N, …], in which it has one shape […], without gradient."""
    if size() == 1:
        return value[None]
    parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(size())]
    with _found():
        dist.all_gather(parts, value.contiguous())
    return torch.stack(parts)


def sum_over_processes(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, in place and without gradient; `value` itself with one process."""
    if size() > 1:
        with _found():
            dist.all_reduce(value)
    return value


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over all processes, which have gradients of the same parameters."""
    if size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = sum_over_processes(torch.cat([gradient.flatten() for gradient in gradients])) / size()
    parts = torch.split(together, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def anywhere(flag: bool) -> bool:
    """Whether a flag is set in any process, without waiting for the device."""
    return bool(sum_over_processes(torch.tensor(int(flag)))) if size() > 1 else flag


def check_shares(where: str, count: int) -> None:
    """Raise UserError if the processes cannot share a batch of so many images evenly."""
    if count % size():
        raise UserError(f"{where}: {count} found, expected a multiple of the {size()} devices")


def check_agreed(step: int, what: str) -> None:
    """Raise UserError if the processes are not at the same step; what: where they read theirs, for the error."""
    found = sorted(set(of_all_processes(torch.tensor(step)).tolist()))
    if len(found) > 1:
        raise UserError(
            f"{what}: not the same on all machines (steps {', '.join(map(str, found))}); the folder must be "
            "shared by them"
        )
