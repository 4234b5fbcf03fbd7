"""MixMatch (arXiv:1905.02249): sharpened predictions, mixed with labels, as targets of a bounded loss."""

from torch import Tensor
from torch.nn import functional as F


def sharpen(probability: Tensor, *, temperature: float) -> Tensor:
    """Return the sharpened probabilities p^(1/T) / sum p^(1/T) (MixMatch, eq. 7), without gradient.

    probability: [..., C]; the result has the same shape. T = 1 changes nothing; the limit for T → 0 is one-hot.
    """
    probability = probability.detach().float()
    # Relative to the largest, whose power is then 1, so that not all of them can underflow.
    power = (probability / probability.amax(dim=-1, keepdim=True)) ** (1 / temperature)
    return power / power.sum(dim=-1, keepdim=True)


def mixmatch(
    labelled_logits: Tensor, labelled_target: Tensor, unlabelled_logits: Tensor, unlabelled_target: Tensor
) -> dict[str, Tensor]:
    """Return the two terms of MixMatch (eq. 3 and 4) for mixed images.

    *_logits: [B, C] and [U, C]; *_target: probabilities of the same shapes, without gradient. Returns scalars:
    labelled, the mean cross-entropy over B; unlabelled, the squared distance of the probabilities, averaged over U and
    divided by C, which is (1 - 1/C) / C for one-hot targets and uniform logits.
    """
    return {
        "labelled": F.cross_entropy(labelled_logits.float(), labelled_target.detach().float()),
        "unlabelled": F.mse_loss(unlabelled_logits.float().softmax(dim=1), unlabelled_target.detach().float()),
    }
