"""A memory bank of one feature for each training image (Wu et al. 2018, arXiv:1805.01978, section 3.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def unit_rows(count: int, length: int) -> Tensor:
    """[count, length] random directions from torch's global generator: the start values of a memory."""
    return F.normalize(torch.randn(count, length), dim=1)


class MemoryBank(nn.Module):
    """The features of the last visits of N images, [N, D], each of length 1."""

    rows: Tensor

    def __init__(self, images: int, length: int, *, momentum: float) -> None:
        """length: D. momentum: share of the old feature that stays in an update."""
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", unit_rows(images, length))

    @torch.no_grad()
    def update(self, index: Tensor, feature: Tensor) -> None:
        """Move the rows `index` [B] towards their images' new features [B, D]."""
        moved = self.momentum * self.rows[index] + (1 - self.momentum) * feature
        self.rows[index] = F.normalize(moved, dim=1)
