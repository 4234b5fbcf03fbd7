"""Cross-entropy on given labels, and the weights of losses that are learned together."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7).

    logits: [B, C]; target: int64 [B] or probabilities [B, C] (mixed labels), taken as given (no gradient). The target
    learned is (1 - s) target + s / C. Returns the mean over images, a scalar. At uniform logits: ln C.
    """
    target = target.detach()
    target = target.float() if target.is_floating_point() else target
    return F.cross_entropy(logits.float(), target, label_smoothing=smoothing)


def multi_task(losses: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Losses weighted by their share of the batch (Fini et al. 2023, "Suave and Daino", section 4), a scalar.

    losses: scalars, each a mean over its predictions; counts: how many predictions that is, images times views ("all
    the multi-crop views are taken into account when weighting the loss"). It is the mean over all predictions, as if
    they had been concatenated (figure 2).
    """
    return torch.stack([loss * count for loss, count in zip(losses, counts, strict=True)]).sum() / sum(counts)
