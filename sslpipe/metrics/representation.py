"""Alignment and uniformity, metrics of features without labels (Wang and Isola 2020, arXiv:2005.10242)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared distance between the normalised features of two views (eq. 1 with α = 2).

    first, second: [N, D], where row i of each is a view of image i, of any norm. The result is a scalar from 0 (the
    features do not depend on the view) to 4.
    """
    return (F.normalize(first.float(), dim=1) - F.normalize(second.float(), dim=1)).square().sum(dim=1).mean()


def uniformity(features: Tensor) -> Tensor:
    """Return the logarithm of the mean Gaussian potential of all pairs of normalised features (eq. 2 with t = 2).

    features: [N, D] of at least 2 images, of any norm. The result is a scalar: 0 if all features are equal, and about
    -4 if they are distributed uniformly on the sphere.
    """
    return torch.pdist(F.normalize(features.float(), dim=1)).square().mul(-2).exp().mean().log()
