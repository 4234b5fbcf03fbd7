"""Feature Decoupling: half of a feature tells rotations, the other half is alike in all of them (Feng et al. 2019)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rotation(logits: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy of the four rotations (section 3.2), a scalar.

    logits: [4, B, 4], of the B images after 0, 1, 2, 3 quarter turns; weight: [4, B], from `rotation_weights`. The mean
    over images and rotations. With weights 1 at chance it is ln 4.
    """
    turns = torch.arange(4, device=logits.device).repeat_interleave(logits.shape[1])
    losses = F.cross_entropy(logits.float().flatten(0, 1), turns, reduction="none")
    return (weight.flatten() * losses).mean()


def rotation_weights(upright: Tensor, *, gamma: float) -> Tensor:
    """1 - p^γ for turned images and 1 for upright ones (section 3.2), [4, B].

    upright: [3, B], the probability that the image after 1, 2, 3 quarter turns passes for an upright one. An image that
    looks the same in several orientations teaches nothing about them.
    """
    return torch.cat([torch.ones_like(upright[:1]), 1 - upright.clamp(0, 1) ** gamma])


def agreement(invariant: Tensor) -> Tensor:
    """Squared distance of the invariant halves to their mean over the rotations (section 3.3), a scalar.

    invariant: [4, B, D]. The mean over rotations, images and elements; 0 where all rotations give the same.
    """
    return (invariant.float() - invariant.float().mean(dim=0)).square().mean()
