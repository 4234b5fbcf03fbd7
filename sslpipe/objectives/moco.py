"""MoCo (He et al. 2020; v2: arXiv:2003.04297): contrast of a query and its key with a queue of earlier keys."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.objectives._float32 import in_float32


@in_float32
def info_nce(query: Tensor, key: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """Return the contrastive loss of queries and keys with a queue of negatives (MoCo, eq. 1), a scalar.

    query, key: [B, D], row i of each from image i; queue: [Q, D], the negatives; all are normalised here. Keys and
    queue receive no gradient. The loss is the mean over queries; it is ln(Q + 1) if all keys are equal.
    """
    query, key, queue = (F.normalize(rows, dim=1) for rows in (query, key.detach(), queue.detach()))
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))
