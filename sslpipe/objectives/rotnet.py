"""RotNet: by how many quarter turns an image was rotated (Gidaris et al. 2018)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rotation(logits: Tensor) -> Tensor:
    """Cross-entropy of the four rotations (RotNet, eq. 2 and 3), a scalar.

    logits: [4B, 4], first those of all B upright images, then of all after one quarter turn, two, three. At chance it
    is ln 4.
    """
    turns = torch.arange(4, device=logits.device).repeat_interleave(len(logits) // 4)
    return F.cross_entropy(logits.float(), turns)
