"""Cross-entropy with given labels, and the weighted mean of several losses."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy with label smoothing (Szegedy et al. 2016, "Rethinking the Inception architecture").

    logits: [B, C]; target: int64 [B] or probabilities [B, C] (mixed labels), without gradient. The smoothed target is
    (1 - s) target + s / C (section 7). Returns the mean over images, a scalar; it is ln C for uniform logits.
    """
    target = target.detach()
    target = target.float() if target.is_floating_point() else target
    return F.cross_entropy(logits.float(), target, label_smoothing=smoothing)


def multi_task(losses: Sequence[Tensor], counts: Sequence[float]) -> Tensor:
    """Return the mean of losses, weighted by their share of the batch (Suave, arXiv:2306.07483, section 4), a scalar.

    losses: scalars, each a mean over its predictions; counts: numbers of these predictions, images times views ("all
    the multi-crop views are taken into account when weighting the loss"). The result is the mean over all predictions,
    as if they had been concatenated (figure 2).
    """
    return torch.stack([loss * count for loss, count in zip(losses, counts, strict=True)]).sum() / sum(counts)
