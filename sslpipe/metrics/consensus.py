"""Alignment of several cluster heads, whose numbering of the clusters is arbitrary, to one of them."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sslpipe.data.device import widest_float


@torch.no_grad()
def align_heads(logits: Iterable[Tensor], best: int) -> NDArray[np.int64]:
    """Return the output of each head that corresponds to each output of the best head, [H, K].

    logits: chunks [H, B, K] of the logits of the same images in every head. best: the head that the others are aligned
    to. For head h the result maximises Σ_k M[order[h, k], k] of M = Σ_x p_h(x) p_best(x)ᵀ over one-to-one maps.
    Raises ValueError without a chunk.
    """
    together: Tensor | None = None
    for chunk in logits:
        probability = chunk.float().softmax(dim=2)
        added = torch.einsum("hbk,bl->hkl", probability, probability[best]).to(widest_float(chunk.device))
        together = added if together is None else together + added
    if together is None:
        raise ValueError("logits: no chunk found")
    orders = []
    for matrix in together.cpu().numpy():
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        orders.append(rows[np.argsort(columns)])
    return np.stack(orders).astype(np.int64)
