"""Feature Decoupling (Feng et al. 2019): half of the features predict rotations, the other half is invariant."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rotation(logits: Tensor, weight: Tensor) -> Tensor:
    """Return the mean weighted cross-entropy of the four rotations (section 3.2), a scalar.

    logits: [4, B, 4], of the B images rotated by 0, 90, 180, 270°; weight: [4, B], from `rotation_weights`. For uniform
    logits and weights of 1 the loss is ln 4.
    """
    rotations = torch.arange(4, device=logits.device).repeat_interleave(logits.shape[1])
    losses = F.cross_entropy(logits.float().flatten(0, 1), rotations, reduction="none")
    return (weight.flatten() * losses).mean()


def rotation_weights(upright: Tensor, *, gamma: float) -> Tensor:
    """Return the weights 1 - p^γ of rotated images and 1 of upright images (section 3.2), [4, B].

    upright: [3, B], the probability p that the image rotated by 90, 180, 270° is upright. Images that look the same in
    several orientations receive small weights.
    """
    return torch.cat([torch.ones_like(upright[:1]), 1 - upright.clamp(0, 1) ** gamma])


def agreement(invariant: Tensor) -> Tensor:
    """Return the mean squared distance of the invariant halves to their mean over rotations (section 3.3), a scalar.

    invariant: [4, B, D]. The loss is 0 if the features are the same for all rotations.
    """
    return (invariant.float() - invariant.float().mean(dim=0)).square().mean()
