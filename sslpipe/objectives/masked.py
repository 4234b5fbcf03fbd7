"""Mean of losses over some of a batch's images."""

from typing import Literal

from torch import Tensor

NormalizeBy = Literal["batch", "confident"]


def masked_mean(loss: Tensor, kept: Tensor, *, normalize_by: NormalizeBy) -> Tensor:
    """Return the sum of the kept images' losses, divided by all B images or by the kept ones (0 if there is none).

    loss: [B]; kept: [B], 1 for an image that is kept, else 0.
    """
    total = (kept * loss).sum()
    return total / (kept.sum().clamp(min=1) if normalize_by == "confident" else len(kept))
