"""RotNet (Gidaris et al. 2018, arXiv:1803.07728): the network predicts the rotation of an image."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rotation(logits: Tensor) -> Tensor:
    """Return the cross-entropy of the four rotations (RotNet, eq. 2 and 3), a scalar.

    logits: [4B, 4], first of all B upright images, then of all images rotated by 90, 180 and 270°. For uniform logits
    the loss is ln 4.
    """
    rotations = torch.arange(4, device=logits.device).repeat_interleave(len(logits) // 4)
    return F.cross_entropy(logits.float(), rotations)
