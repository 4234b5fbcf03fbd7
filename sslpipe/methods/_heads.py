"""Training of SCAN's linear heads on cached features, all heads by one matrix product."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.device import widest_float
from sslpipe.nets.heads import ClusterHeads, ClusterSettings
from sslpipe.nets.unit_heads import stacked
from sslpipe.objectives.scan import scan

CHUNK = 4096
"""Images whose logits are computed at a time (own choice)."""
KEPT_BYTES = 1 << 29
"""Memory for log-probabilities that are kept (own choice: those of 10 heads of 10 clusters for 1.3 million images)."""


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

    The log-probabilities of all images are kept, so that each is computed once: those of as many heads at a time as fit
    into KEPT_BYTES. Where those of one head do not fit, they are computed anew for each of the K neighbours.
    """
    shape, features = heads.settings, pairs.features
    fitting = KEPT_BYTES // (4 * len(features) * shape.clusters)  # of float32
    if not fitting:
        every = (shape.heads, shape.clusters)
        return _losses(
            pairs, every, lambda index: _log_probabilities(heads, slice(None), features[index]), entropy_weight
        )
    parts = []
    for first in range(0, shape.heads, fitting):
        some = slice(first, min(first + fitting, shape.heads))
        kept = torch.empty(len(features), some.stop - first, shape.clusters, device=features.device)
        for rows, few in zip(torch.split(kept, CHUNK), torch.split(features, CHUNK), strict=True):
            rows.copy_(_log_probabilities(heads, some, few))
        parts.append(_losses(pairs, (kept.shape[1], shape.clusters), kept.__getitem__, entropy_weight))
    return torch.cat(parts)


def _log_probabilities(heads: ClusterHeads, some: slice, features: Tensor) -> Tensor:
    """Return the log-probabilities [B, some of H, C] of some heads for features [B, D]."""
    weight, bias = stacked(heads.linear, heads.settings.heads, heads.settings.clusters)
    logits = F.linear(features, weight[some].flatten(0, 1), bias[some].flatten())
    return logits.view(len(features), -1, heads.settings.clusters).float().log_softmax(dim=-1)


def _losses(
    pairs: Pairs, shape: tuple[int, int], log_p: Callable[[Tensor | slice], Tensor], entropy_weight: float
) -> Tensor:
    """Return the SCAN loss of some heads, [H].

    shape: (H, C). log_p: indices of B images → their log-probabilities [B, H, C]. Both halves of the loss are sums over
    images.
    """
    count, wide = len(pairs.features), widest_float(pairs.features.device)
    agreement, mean = (pairs.features.new_zeros(each, dtype=wide) for each in (shape[:1], shape))
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        own = log_p(part)
        mean += own.exp().sum(dim=0)
        for each in pairs.neighbors[part].T:
            # Added in place: small results that are kept would lie between large ones, whose memory is then lost.
            agreement += torch.logsumexp(own + log_p(each), dim=-1).sum(dim=0)
    mean /= count
    entropy = -(mean * mean.clamp_min(1e-12).log()).sum(dim=1)
    return -agreement / (count * pairs.neighbors.shape[1]) - entropy_weight * entropy
