"""What features are judged by where nothing is learned: the two aims of contrastive learning (Wang & Isola 2020)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of the features of two views of an image (eq. 1 with α = 2), a scalar from 0 to 4.

    first, second: [N, D], row i of each from image i; any length, they are normalised here. 0 where the features do
    not change with the view (SCAN, eq. 1).
    """
    return (F.normalize(first.float(), dim=1) - F.normalize(second.float(), dim=1)).square().sum(dim=1).mean()


def uniformity(features: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs of images (eq. 2 with t = 2), a scalar.

    features: [N, D], N at least 2; any length, they are normalised here. 0 where all features are the same; the
    lower, the more evenly they lie on the sphere, about -4 at the lowest.
    """
    return torch.pdist(F.normalize(features.float(), dim=1)).square().mul(-2).exp().mean().log()
