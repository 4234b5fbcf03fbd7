"""SwAV: balanced assignments of one view are predicted from another (Caron et al. 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Balanced soft assignment by Sinkhorn-Knopp (SwAV, eq. 3 to 5 and appendix A; Suave, eq. 5 and 6), no gradient.

    scores: [..., B, K] cosines of images and prototypes, each [B, K] by itself; iterations: at least 1. Returns the
    same shape: exp(scores / ε), columns and then rows scaled to equal sums in turn. Rows sum to 1; columns tend to
    B / K with the iterations. At uniform scores: 1 / K.
    """
    # In logarithms, so that neither a large score overflows nor a row of small ones vanishes.
    log_assignment = scores.detach().float() / epsilon
    for _ in range(iterations):
        log_assignment = log_assignment.log_softmax(dim=-2).log_softmax(dim=-1)
    return log_assignment.exp()


def swapped_prediction(assignments: Tensor, logits: Sequence[Tensor]) -> Tensor:
    """Cross-entropy of each view's prediction on the other views' assignments (SwAV, eq. 2 and 6), a scalar.

    assignments: [G, B, K] of the first G views, the global crops, taken as given (no gradient); logits: V tensors
    [B, K], V at least 2, already divided by the temperature, of the global crops first. Returns the mean over images
    and over the pairs of an assignment g and another view v != g. At uniform predictions: ln K.
    """
    log_prediction = torch.stack([view.float().log_softmax(dim=1) for view in logits])
    pairs = -(assignments.detach().float()[:, None] * log_prediction).sum(dim=-1).mean(dim=-1)
    swapped = 1 - torch.eye(*pairs.shape, device=pairs.device)
    return (swapped * pairs).sum() / swapped.sum()
