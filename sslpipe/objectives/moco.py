"""MoCo: a query agrees with its key against a queue of keys of earlier batches (He et al. 2020)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(query: Tensor, key: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """Contrastive loss of queries with their keys against a queue (MoCo, eq. 1), a scalar.

    query, key: [B, D], row i of each from image i; queue: [Q, D], the negatives; any length, they are normalised here.
    No gradient goes to key and queue. The mean over queries. With all keys alike it is ln(Q + 1).
    """
    query, key, queue = (F.normalize(rows.float(), dim=1) for rows in (query, key.detach(), queue.detach()))
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))
