"""Self-labelling: cross-entropy with the model's own confident predictions (SCAN, arXiv:2005.12320, section 2.3)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def confident_cross_entropy(
    target_logits: Tensor, logits: Tensor, *, threshold: float, balance: bool
) -> dict[str, Tensor]:
    """Return the cross-entropy of strong views with confident pseudo-labels (SCAN, section 2.3).

    target_logits: [B, C], of plain views, without gradient; logits: [B, C], of strong views. Confident rows are those
    whose largest target probability exceeds `threshold`; their most likely cluster is the target. With `balance`, the
    weight of a confident row is the inverse of the number of confident rows of its cluster (section 3.1), so that every
    cluster that is present has the same weight. Returns scalars: loss (0 without confident rows), confident, the number
    of confident rows.
    """
    probability, label = target_logits.detach().float().softmax(dim=1).max(dim=1)
    kept = (probability > threshold).float()
    weight = kept
    if balance:
        count = torch.zeros_like(logits[0], dtype=torch.float32).index_add_(0, label, kept)
        weight = kept / count.clamp(min=1)[label]
    cross_entropy = F.cross_entropy(logits.float(), label, reduction="none")
    return {"loss": (weight * cross_entropy).sum() / weight.sum().clamp(min=1e-12), "confident": kept.sum()}
