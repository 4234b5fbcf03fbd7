"""Recomputed activations: the backward pass computes those of a block again, instead of the forward keeping them.

Only the input of each block is kept (Chen et al. 2016, arXiv:1604.06174), and the activations of one block at a time.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sslpipe.nets.layers import Backbone
from sslpipe.nets.synced_norm import synced_batch_norms


def set_recompute(module: nn.Module, recompute: bool) -> None:
    """Set for all backbones in a module whether they recompute their activations; UserError for one that cannot."""
    for each in module.modules():
        if isinstance(each, Backbone):
            each.set_recompute(recompute)


def run_parts(backbone: Backbone, parts: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Return x after all parts of a backbone, which follow one another; its activations are recomputed if it says so.

    That is in train mode and with gradients enabled. Random draws are the same in both computations. The parts do not
    change their input in place.
    """
    recomputed = backbone.recompute and backbone.training and torch.is_grad_enabled()
    for part in parts:
        # Not the reentrant kind, whose backward passes within a backward pass torch refuses in forked processes.
        x = checkpoint(part, x, use_reentrant=False, context_fn=partial(_contexts, part)) if recomputed else part(x)
    return x


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what the first computation of a part runs in, and what the second one does, in the backward pass."""
    return nullcontext(), recomputing(part)


@contextmanager
def recomputing(part: nn.Module) -> Iterator[None]:
    """Compute a part of a network a second time: its running statistics, which the first time has moved, stay.

    While the block runs the part has copies of its buffers. Its batch norms are those of all processes again, if they
    share the batch.
    """
    own = [(layer, *named) for layer in part.modules() for named in layer.named_buffers(recurse=False)]
    for layer, name, buffer in own:
        setattr(layer, name, buffer.clone())
    try:
        with synced_batch_norms():
            yield
    finally:
        for layer, name, buffer in own:
            setattr(layer, name, buffer)
