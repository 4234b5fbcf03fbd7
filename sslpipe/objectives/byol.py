"""BYOL: the online network predicts the target network's projection of another view (Grill et al. 2020)."""

from torch import Tensor
from torch.nn import functional as F


def regression(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the normalised vectors, 2 - 2 cos (BYOL, eq. 2), a scalar.

    prediction, target: [B, D], row i of each from image i; any length. No gradient goes to the target. The mean over
    images: 0 where they point the same way, 2 at right angles, 4 where they are opposed. A collapse reaches 0.
    """
    cosine = F.cosine_similarity(prediction.float(), target.detach().float(), dim=1)
    return (2 - 2 * cosine).mean()
