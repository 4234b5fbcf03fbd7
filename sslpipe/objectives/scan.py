"""SCAN: an image and its neighbours fall into one group, and the groups are used alike."""

from math import log

import torch
from torch import Tensor


def scan(anchor_logits: Tensor, neighbor_logits: Tensor, *, entropy_weight: float) -> dict[str, Tensor]:
    """The SCAN loss (Van Gansbeke et al. 2020, eq. 2) of one batch, in log-sum-exp form.

    anchor_logits, neighbor_logits: [..., B, C], row i of the second from a neighbour of row i of the first; leading
    dimensions are several heads, each with its own loss. Returns, each of shape [...]:
    consistency: -mean log <p, q>; entropy: of the anchors' mean probability; loss: consistency - λ entropy.
    At the uniform start: ln C, ln C, (1 - λ) ln C. At balanced one-hot agreement: 0, ln C, -λ ln C.
    """
    log_p = anchor_logits.float().log_softmax(dim=-1)
    log_q = neighbor_logits.float().log_softmax(dim=-1)
    consistency = -torch.logsumexp(log_p + log_q, dim=-1).mean(dim=-1)
    log_mean = torch.logsumexp(log_p, dim=-2) - log(log_p.shape[-2])
    entropy = -(log_mean.exp() * log_mean).sum(dim=-1)
    return {"loss": consistency - entropy_weight * entropy, "consistency": consistency, "entropy": entropy}
