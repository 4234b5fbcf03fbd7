"""MixMatch: sharpened guesses, mixed with labels, and a bounded loss on them."""

from torch import Tensor
from torch.nn import functional as F


def sharpen(probability: Tensor, *, temperature: float) -> Tensor:
    """p^(1/T) / sum p^(1/T) (Berthelot et al. 2019, "MixMatch", eq. 7), without gradient.

    probability: [..., C], as is the result. At T = 1 it is the same, towards T = 0 it is one-hot.
    """
    probability = probability.detach().float()
    # Relative to the largest, whose power is 1, so that they cannot all underflow.
    power = (probability / probability.amax(dim=-1, keepdim=True)) ** (1 / temperature)
    return power / power.sum(dim=-1, keepdim=True)


def mixmatch(
    labelled_logits: Tensor, labelled_target: Tensor, unlabelled_logits: Tensor, unlabelled_target: Tensor
) -> dict[str, Tensor]:
    """The two terms of MixMatch (Berthelot et al. 2019, eq. 3 and 4), on images that are mixed already.

    *_logits: [B, C] and [U, C]; *_target: probabilities of the same shapes, taken as given (no gradient). Returns
    scalars. labelled: cross-entropy, averaged over B. unlabelled: squared distance of the probabilities, averaged
    over U and divided by C; at one-hot targets and uniform logits it is (1 - 1/C) / C.
    """
    return {
        "labelled": F.cross_entropy(labelled_logits.float(), labelled_target.detach().float()),
        "unlabelled": F.mse_loss(unlabelled_logits.float().softmax(dim=1), unlabelled_target.detach().float()),
    }
