"""Training of SCAN's linear heads on cached features, all heads by one matrix product."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sslpipe.data.device import widest_float
from sslpipe.nets.heads import ClusterHeads, ClusterSettings
from sslpipe.objectives.scan import scan

CHUNK = 4096
"""Images whose logits are computed at a time (own choice)."""


@dataclass(frozen=True)
class Pairs:
    """Images and the neighbours that should share their cluster."""

    features: Tensor
    """[N, D], of mean 0 and standard deviation 1 over all values."""
    neighbors: Tensor
    """int64 [N, K], on the same device."""


def train_heads(
    pairs: Pairs,
    shape: ClusterSettings,
    *,
    entropy_weight: float,
    lr: float,
    steps: int,
    batch: int,
    generator: torch.Generator,
) -> ClusterHeads:
    """Return heads trained by the SCAN loss (eq. 2) on random pairs of an image and one of its neighbours.

    The heads differ in their initial weights, which torch's global generator gives. Adam with a cosine schedule,
    `steps` steps of at most `batch` pairs, drawn with replacement. generator: on the CPU, gives the pairs.
    """
    features, neighbors = pairs.features, pairs.neighbors
    device, size = features.device, min(batch, len(features))
    heads = ClusterHeads(features.shape[1], shape).to(device)
    optimizer = torch.optim.Adam(heads.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        index = torch.randint(len(features), (size,), generator=generator).to(device)
        choice = torch.randint(neighbors.shape[1], (size,), generator=generator).to(device)
        anchor, neighbor = heads.by_image(features[torch.cat([index, neighbors[index, choice]])]).chunk(2)
        loss = scan(anchor, neighbor, entropy_weight=entropy_weight, batch_dim=-3)["loss"].sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return heads


@torch.no_grad()
def losses_of(pairs: Pairs, heads: ClusterHeads, *, entropy_weight: float) -> Tensor:
    """Return the SCAN loss (eq. 2) of each head over all images and all their neighbours, [H].

    The two halves of the loss are sums over images, so that only the logits of some images are in memory.
    """
    count, shape = len(pairs.features), heads.settings
    wide = widest_float(pairs.features.device)
    consistency = pairs.features.new_zeros(shape.heads, dtype=wide)
    mean = pairs.features.new_zeros(shape.heads, shape.clusters, dtype=wide)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        log_p = heads.by_image(pairs.features[part]).float().log_softmax(dim=-1)
        mean += log_p.exp().sum(dim=0)
        for column in pairs.neighbors[part].T:
            log_q = heads.by_image(pairs.features[column]).float().log_softmax(dim=-1)
            consistency -= torch.logsumexp(log_p + log_q, dim=-1).sum(dim=0)
    mean /= count
    entropy = -(mean * mean.clamp_min(1e-12).log()).sum(dim=1)
    return consistency / (count * pairs.neighbors.shape[1]) - entropy_weight * entropy
