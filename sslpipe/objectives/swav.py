"""SwAV (arXiv:2006.09882): the balanced assignment of one view is predicted from another view."""

from collections.abc import Sequence

import torch
from torch import Tensor


def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Return balanced soft assignments by the Sinkhorn-Knopp algorithm, without gradient.

    Source: SwAV, eq. 3 to 5 and appendix A; Suave (arXiv:2306.07483), eq. 5 and 6. scores: [..., B, K], cosines of
    images and prototypes; each [B, K] is balanced separately. iterations: at least 1. The result has the same shape:
    exp(scores / ε), with columns and rows normalised in turn. Rows sum to 1; sums of columns converge to B / K with the
    iterations. For uniform scores it is 1 / K.
    """
    # In logarithms, so that large scores do not overflow and rows of small scores do not underflow.
    log_assignment = scores.detach().float() / epsilon
    for _ in range(iterations):
        log_assignment = log_assignment.log_softmax(dim=-2).log_softmax(dim=-1)
    return log_assignment.exp()


def swapped_prediction(assignments: Tensor, logits: Sequence[Tensor]) -> Tensor:
    """Return the cross-entropy of each view's prediction with the other views' assignments (SwAV, eq. 2 and 6).

    assignments: [G, B, K], of the G global views, without gradient; logits: V tensors [B, K], V at least 2, divided by
    the temperature, first those of the global views. Returns the mean over images and over pairs of an assignment g and
    a view v != g, a scalar; it is ln K for uniform predictions.
    """
    log_prediction = torch.stack(list(logits)).float().log_softmax(dim=2)
    pairs = -(assignments.detach().float()[:, None] * log_prediction).sum(dim=-1).mean(dim=-1)
    swapped = 1 - torch.eye(*pairs.shape, device=pairs.device)
    return (swapped * pairs).sum() / (len(assignments) * (len(logits) - 1))
