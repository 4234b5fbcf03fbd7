"""Self-labelling: cross-entropy on the model's own confident answers."""

import torch
from torch import Tensor
from torch.nn import functional as F


def confident_cross_entropy(
    target_logits: Tensor, logits: Tensor, *, threshold: float, balance: bool
) -> dict[str, Tensor]:
    """Cross-entropy of strongly augmented views on confident answers (Van Gansbeke et al. 2020, section 2.3).

    target_logits: [B, C], of plain views, taken as given (no gradient); logits: [B, C], of the learner's views.
    Kept are rows whose largest target probability exceeds `threshold`; their hard label is the target. With `balance`
    each kept row weighs the inverse of its class's count among the kept rows (section 3.1), so that every class that
    is present has the same say. Returns scalars: loss (0 where none is kept), confident: how many rows are kept.
    """
    probability, label = target_logits.detach().float().softmax(dim=1).max(dim=1)
    kept = (probability > threshold).float()
    weight = kept
    if balance:
        count = torch.zeros_like(logits[0], dtype=torch.float32).index_add_(0, label, kept)
        weight = kept / count.clamp(min=1)[label]
    cross_entropy = F.cross_entropy(logits.float(), label, reduction="none")
    return {"loss": (weight * cross_entropy).sum() / weight.sum().clamp(min=1e-12), "confident": kept.sum()}
