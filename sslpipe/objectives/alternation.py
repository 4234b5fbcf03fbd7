"""Clustering loss with fixed targets that images exchange ("Boosting SSL", Lerner et al. 2020, arXiv:2012.00504)."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F


def assign_targets(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the image for each target, int64 [c], such that the sum of squared distances is minimal (eq. 4).

    outputs: [b, K], unit rows; targets: int64 [c], indices of unit vectors, c <= b. Each image is used at most once.
    The assignment is computed on the CPU; the result is on the outputs' device.
    """
    # The squared distance of unit vectors is 2 minus twice their product. NaN is left to the check of the loss.
    product = outputs.detach().float()[:, targets].T.nan_to_num()
    _, image = linear_sum_assignment(product.cpu().numpy(), maximize=True)
    return torch.as_tensor(image, dtype=torch.int64, device=outputs.device)


def clustering(outputs: Tensor, targets: Tensor, *, radius: float, anchors: Tensor | None = None) -> dict[str, Tensor]:
    """Return the squared distance of augmented copies to the target of their image (eq. 5).

    outputs: [r, b, K] of r copies, or [b, K] of one copy, unit rows; targets: int64 [b], index of the image's unit
    vector, -1 for none; anchors: [b, K], outputs for the images themselves (default: for the first copies), without
    gradient. The target of an image without one is the unit vector of its anchor's largest element if their squared
    distance is below `radius` (ρ); otherwise the image is ignored. Returns scalars: loss, the mean over copies of the
    images with a target (0 without such images; 2 - 2 / sqrt(K) for equal elements), and kept, their share, 0 to 1.
    """
    copies = outputs.float().reshape(-1, *outputs.shape[-2:])
    clusters = copies.shape[2]
    anchor = copies[0].detach() if anchors is None else anchors.detach().float()
    nearest = anchor.argmax(dim=1)
    near = (anchor - F.one_hot(nearest, clusters)).square().sum(dim=1) < radius
    assigned = targets >= 0
    target = F.one_hot(torch.where(assigned, targets, nearest), clusters)
    kept = (assigned | near).float()
    distance = (copies - target).square().sum(dim=2).mean(dim=0)
    return {"loss": (kept * distance).sum() / kept.sum().clamp(min=1), "kept": kept.mean()}
