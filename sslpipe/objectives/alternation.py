"""Clustering loss with fixed targets that images exchange ("Boosting SSL", Lerner et al. 2020, arXiv:2012.00504)."""

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from sslpipe.objectives.masked import masked_mean

Distance = Literal["squared", "euclidean"]


def assign_targets(outputs: Tensor, targets: Tensor, *, distance: Distance = "squared") -> Tensor:
    """Return the image for each target, int64 [c], such that the sum of their distances is minimal (eq. 4).

    outputs: [b, K], unit rows; targets: int64 [c], indices of unit vectors, c <= b. Each image is used at most once.
    The assignment is computed on the CPU; the result is on the outputs' device.
    """
    # The squared distance of unit vectors is 2 minus twice their product. NaN is left to the check of the loss.
    product = outputs.detach().float()[:, targets].nan_to_num()
    score = product if distance == "squared" else -(2 - 2 * product).clamp(min=0).sqrt()
    # Images as rows: of 448 images with as many targets, the transposed problem takes scipy 1.4 to 4.7 times as long.
    image, target = linear_sum_assignment(score.cpu().numpy(), maximize=True)
    found = torch.empty(len(targets), dtype=torch.int64)
    found[torch.from_numpy(target)] = torch.from_numpy(image)
    return found.to(outputs.device)


def clustering(
    outputs: Tensor,
    targets: Tensor,
    *,
    radius: float,
    anchors: Tensor | None = None,
    distance: Distance = "squared",
    reduction: Literal["sum", "mean"] = "sum",
) -> dict[str, Tensor]:
    """Return the squared distance of augmented copies to the target of their image (eq. 5).

    outputs: [r, b, K] of r copies, or [b, K] of one copy, unit rows; targets: int64 [b], index of the image's unit
    vector, -1 for none; anchors: [b, K], outputs for the images themselves (default: for the first copies), without
    gradient. The target of an image without one is the unit vector of its anchor's largest element if their distance,
    squared or not, is below `radius` (ρ); otherwise the image is ignored. reduction: sum or mean of the squares of the
    K elements. Returns scalars: loss, the mean over copies of the images with a target (0 without such images;
    2 - 2 / sqrt(K) for equal elements and their sum), and kept, their share, 0 to 1.
    """
    copies = outputs.float().reshape(-1, *outputs.shape[-2:])
    clusters = copies.shape[2]
    anchor = copies[0].detach() if anchors is None else anchors.detach().float()
    nearest = anchor.argmax(dim=1)
    bound = radius if distance == "squared" else radius**2
    near = (anchor - F.one_hot(nearest, clusters)).square().sum(dim=1) < bound
    assigned = targets >= 0
    target = F.one_hot(torch.where(assigned, targets, nearest), clusters)
    error = (copies - target).square().sum(dim=2).mean(dim=0) / (clusters if reduction == "mean" else 1)
    kept = (assigned | near).float()
    return {"loss": masked_mean(error, kept, normalize_by="confident"), "kept": kept.mean()}
