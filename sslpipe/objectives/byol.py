"""BYOL (arXiv:2006.07733): the online network predicts the target network's projection of another view."""

from torch import Tensor
from torch.nn import functional as F


def regression(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance of the normalised vectors, 2 - 2 cos (BYOL, eq. 2), averaged over images, a scalar.

    prediction, target: [B, D], row i of each from image i; they are normalised here. The target receives no gradient.
    The loss is 0 for parallel, 2 for orthogonal and 4 for opposite vectors. It is 0 for collapsed features.
    """
    cosine = F.cosine_similarity(prediction.float(), target.detach().float(), dim=1)
    return (2 - 2 * cosine).mean()
