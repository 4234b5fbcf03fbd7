"""SimMatch: similarity to classes and to labelled images, each correcting the other (Zheng et al. 2022)."""

import torch
from torch import Tensor
from torch.nn import functional as F

TINY = torch.finfo(torch.float32).tiny


def similarities(embedding: Tensor, bank: Tensor, *, temperature: float) -> Tensor:
    """q: softmax over the bank of cosine / t (eq. 3 and 4), [B, K].

    embedding: [B, D]; bank: [K, D]; any length, they are normalised here. With all bank rows alike it is 1/K.
    """
    # Autocast would round a cosine by up to 0.004, which is 4 % of q at t = 0.1.
    with torch.autocast(embedding.device.type, enabled=False):
        cosine = F.normalize(embedding.float(), dim=1) @ F.normalize(bank.float(), dim=1).T
    return (cosine / temperature).softmax(dim=1)


def propagate(p: Tensor, q: Tensor, bank_labels: Tensor, *, alpha: float) -> tuple[Tensor, Tensor]:
    """Corrected targets (p_hat [B, L], q_hat [B, K]) of weak views (eq. 7 to 10), without gradient.

    p: [B, L] probabilities of classes; q: [B, K] of bank rows; bank_labels: int64 [K], their classes.
    p_hat = α p + (1 - α) q_agg, q summed by class (eq. 9, 10); q_hat ∝ q p_unfold, p of each row's class (eq. 7, 8).
    """
    p, q = p.detach().float(), q.detach().float()
    scaled = q * p[:, bank_labels]
    aggregated = torch.zeros_like(p).index_add(1, bank_labels, q)
    # Where p and q agree on nothing at all, q_hat is 0 and the image has no instance term.
    return alpha * p + (1 - alpha) * aggregated, scaled / scaled.sum(dim=1, keepdim=True).clamp(min=TINY)


def simmatch(
    p_hat: Tensor, q_hat: Tensor, strong_logits: Tensor, strong_q: Tensor, *, threshold: float
) -> dict[str, Tensor]:
    """The two unlabelled terms (eq. 2 and 5, with the corrected targets of `propagate`).

    p_hat: [B, L] and q_hat: [B, K], taken as given (no gradient); strong_logits: [B, L]; strong_q: [B, K], of
    `similarities`: probabilities, held above the smallest float32 before the logarithm. Returns scalars.
    semantic: cross-entropy on soft p_hat where its largest exceeds `threshold`, divided by B. instance:
    cross-entropy on q_hat, averaged over all B. confident: share of images above the threshold, 0 to 1.
    At uniform answers, all kept: ln L and ln K.
    """
    p_hat, q_hat = p_hat.detach().float(), q_hat.detach().float()
    kept = (p_hat.amax(dim=1) > threshold).float()
    semantic = F.cross_entropy(strong_logits.float(), p_hat, reduction="none")
    instance = -(q_hat * strong_q.float().clamp(min=TINY).log()).sum(dim=1)
    return {"semantic": (kept * semantic).mean(), "instance": instance.mean(), "confident": kept.mean()}
