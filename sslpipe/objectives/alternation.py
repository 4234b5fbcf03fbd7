"""Clustering by fixed targets that images exchange (Lerner et al. 2020, "Boosting the performance of semi-supervised
learning with unsupervised clustering", section 3.1).
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F


def assign_targets(outputs: Tensor, targets: Tensor) -> Tensor:
    """The image for each target that makes the sum of squared distances least (eq. 4), int64 [c].

    outputs: [b, K], rows of length 1; targets: int64 [c], numbers of unit vectors, c <= b. No image is taken twice.
    Solved on the CPU; the result is on the outputs' device.
    """
    # Between vectors of length 1 the squared distance is 2 - 2 times the product. What is not a number is left for
    # the loss to show.
    product = outputs.detach().float()[:, targets].T.nan_to_num()
    _, image = linear_sum_assignment(product.cpu().numpy(), maximize=True)
    return torch.as_tensor(image, dtype=torch.int64, device=outputs.device)


def clustering(outputs: Tensor, targets: Tensor, *, radius: float, anchors: Tensor | None = None) -> dict[str, Tensor]:
    """Squared distance of augmented copies to their image's target (eq. 5).

    outputs: [r, b, K] of r copies, or [b, K] of one, rows of length 1; targets: int64 [b], the number of the image's
    unit vector, -1 for none; anchors: [b, K], outputs for the images as they are (default: for the first copies),
    taken as given (no gradient). An image without a target takes the unit vector of its anchor's largest element if
    their squared distance is below `radius` (ρ), and does not count otherwise. Returns scalars. loss: mean over copies
    of the images that count, 0 where none does; 2 - 2 / sqrt(K) at equal elements. kept: their share, 0 to 1.
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
