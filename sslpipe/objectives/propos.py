"""ProPos (Huang et al. 2022, arXiv:2111.11821): prototypes of different clusters are far from each other."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.objectives._float32 import in_float32


@in_float32
def scattering(projection: Tensor, target: Tensor, cluster: Tensor, *, clusters: int, temperature: float) -> Tensor:
    """Return the prototype scattering loss of a batch (as in the public code), a scalar.

    projection: [B, D], of the online network for one view; target: [B, D], of the target network for another view, row
    i of each from image i; both are normalised here, and the target receives no gradient. cluster: int64 [B], below
    `clusters`. With μ_k and μ'_k the normalised sums of the projections and of the targets in cluster k, it is the
    mean over those clusters that have an image in the batch of

        -log(exp(μ_k · μ'_k / τ) / (exp(μ_k · μ'_k / τ) + Σ_{j ≠ k} exp(μ_k · μ_j / τ)))

    where j is one of them too. It is ln K if the K prototypes are equal, ln(1 + (K - 1) exp(-1 / τ)) if they are
    orthogonal and equal to their targets, and 0 if all images are in one cluster.
    """
    member = (cluster[:, None] == torch.arange(clusters, device=cluster.device)).to(projection.dtype)
    present = member.any(dim=0)
    prototype, other = (
        F.normalize(member.T @ F.normalize(rows, dim=1), dim=1) for rows in (projection, target.detach())
    )
    positive = (prototype * other).sum(dim=1) / temperature
    own = torch.eye(clusters, dtype=torch.bool, device=cluster.device)
    logits = torch.where(own, positive[:, None], prototype @ prototype.T / temperature)
    lost = logits.masked_fill(~present, -torch.inf).logsumexp(dim=1) - positive
    return torch.where(present, lost, 0.0).sum() / present.sum()
