"""SimMatch (Zheng et al. 2022, arXiv:2203.06915): targets from class probabilities and image similarities."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.objectives._float32 import in_float32

TINY = torch.finfo(torch.float32).tiny
"""Smallest normal float32, for divisors and logarithms."""


@in_float32
def similarities(embedding: Tensor, bank: Tensor, *, temperature: float) -> Tensor:
    """Return q, the softmax of cosine / t over a bank of embeddings (eq. 3 and 4), [B, K].

    embedding: [B, D], normalised here; bank: [K, D], rows of length 1. With equal bank rows q is 1/K.
    """
    cosine = F.normalize(embedding, dim=1) @ bank.T
    return (cosine / temperature).softmax(dim=1)


def propagate(p: Tensor, q: Tensor, bank_labels: Tensor, *, alpha: float) -> tuple[Tensor, Tensor]:
    """Return the propagated targets (p_hat [B, L], q_hat [B, K]) of weak views (eq. 7 to 10), without gradient.

    p: [B, L] probabilities of classes; q: [B, K] of bank rows; bank_labels: int64 [K], classes of the bank rows.
    p_hat = α p + (1 - α) q_agg, with q summed by class (eq. 9, 10); q_hat ∝ q p_unfold, with p of each row's class
    (eq. 7, 8).
    """
    p, q = p.detach().float(), q.detach().float()
    scaled = q * p[:, bank_labels]
    aggregated = torch.zeros_like(p).index_add(1, bank_labels, q)
    # If the product of p and q is 0 for all rows, q_hat is 0 and the image has no instance term.
    return alpha * p + (1 - alpha) * aggregated, scaled / scaled.sum(dim=1, keepdim=True).clamp(min=TINY)


def simmatch(
    p_hat: Tensor, q_hat: Tensor, strong_logits: Tensor, strong_q: Tensor, *, threshold: float
) -> dict[str, Tensor]:
    """Return the two unlabelled terms (eq. 2 and 5, with the targets of `propagate`) and the confident share, scalars.

    p_hat: [B, L] and q_hat: [B, K], without gradient; strong_logits: [B, L]; strong_q: [B, K], from `similarities`,
    clamped to at least TINY. semantic: cross-entropy with p_hat, summed over images whose largest p_hat exceeds
    `threshold` and divided by B. instance: mean cross-entropy with q_hat over all images. confident: share of images
    above the threshold, 0 to 1. For uniform strong predictions and confident images the terms are ln L and ln K.
    """
    p_hat, q_hat = p_hat.detach().float(), q_hat.detach().float()
    kept = (p_hat.amax(dim=1) > threshold).float()
    semantic = F.cross_entropy(strong_logits.float(), p_hat, reduction="none")
    instance = -(q_hat * strong_q.float().clamp(min=TINY).log()).sum(dim=1)
    return {"semantic": (kept * semantic).mean(), "instance": instance.mean(), "confident": kept.mean()}
