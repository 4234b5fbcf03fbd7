"""SCAN (Van Gansbeke et al. 2020, arXiv:2005.12320): neighbours share a cluster, and clusters are used equally."""

from math import log

import torch
from torch import Tensor


def scan(
    anchor_logits: Tensor, neighbor_logits: Tensor, *, entropy_weight: float, batch_dim: int = -2
) -> dict[str, Tensor]:
    """Return the SCAN loss (eq. 2) of a batch, in log-sum-exp form.

    anchor_logits, neighbor_logits: [..., B, C], row i of the second from a neighbour of row i of the first; other
    dimensions are several heads, each with its own loss. batch_dim: the dimension of the images, counted from the end;
    -3 for [B, H, C], which needs no copy of the logits of several heads. Returns, each of shape [...]: consistency,
    -mean log <p, q>; entropy, that of the anchors' mean probability; loss, consistency - λ entropy.
    They are ln C, ln C, (1 - λ) ln C for uniform logits and 0, ln C, -λ ln C for balanced, equal one-hot predictions.
    """
    log_p = anchor_logits.float().log_softmax(dim=-1)
    log_q = neighbor_logits.float().log_softmax(dim=-1)
    consistency = -torch.logsumexp(log_p + log_q, dim=-1).mean(dim=batch_dim + 1)
    log_mean = torch.logsumexp(log_p, dim=batch_dim) - log(log_p.shape[batch_dim])
    entropy = -(log_mean.exp() * log_mean).sum(dim=-1)
    return {"loss": consistency - entropy_weight * entropy, "consistency": consistency, "entropy": entropy}
