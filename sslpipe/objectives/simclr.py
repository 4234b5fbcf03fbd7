"""SimCLR (arXiv:2002.05709): contrast of two views of an image with all other images of the batch."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.objectives._float32 import in_float32


@in_float32
def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float, anchors: Literal["both", "first"] = "both") -> Tensor:
    """Return the mean normalised temperature-scaled cross-entropy of the anchors (SimCLR, eq. 1), a scalar.

    z1, z2: [B, D], row i of each from image i; they are normalised here. anchors: all 2B views, or the first view of
    each image. The positive of an anchor is the other view of the image, its negatives are the 2B - 2 views of other
    images. With equal rows the loss is ln(2B - 1).
    """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    count = len(z1)
    positive = torch.arange(2 * count, device=z.device).roll(count)
    if anchors == "first":
        similarity, positive = similarity[:count], positive[:count]
    return F.cross_entropy(similarity, positive)
