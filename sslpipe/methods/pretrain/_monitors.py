"""Diagnostics of a network's features of held-out images, for the history; they read no label."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.images import Images
from sslpipe.nets.heads import PrototypeHead
from sslpipe.nets.inference import BATCH, head_output, in_parts, infer
from sslpipe.nets.network import Network
from sslpipe.views.policies import Views

MAX_IMAGES = 5000
"""Only the first so many held-out images are used (own choice: their similarities are one small matrix)."""
NO_METRICS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {}
MIN_STD = 0.01
"""A held_out/feature_std below which all features are the same up to rounding (own choice)."""


@torch.no_grad()
def feature_diagnostics(
    network: Network,
    images: Images,
    views: Views,
    further: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = NO_METRICS,
) -> dict[str, float]:
    """Columns of the history; {} with fewer than two held-out images. Leaves the network in eval mode.

    held_out/feature_std: see `feature_std`. held_out/view_retrieval@1: share of images whose view is nearest to another
    view of the same image, among all held-out ones (how far eq. 1 of SCAN, arXiv:2005.12320, holds).
    held_out/prototypes: number of prototypes that are the nearest one of some image. further: column → scalar of the
    unit features [M, D] of two views of each image.
    """
    if len(images) > MAX_IMAGES:
        images = images.subset(torch.arange(MAX_IMAGES))
    if len(images) < 2:
        return {}
    network.eval()
    features = infer(network.features, images)
    first, second = two_views(network, images, views)
    row = {
        "held_out/feature_std": feature_std(features),
        "held_out/view_retrieval@1": view_retrieval(first, second),
    }
    row |= {column: metric(first, second).item() for column, metric in further.items()}
    if isinstance(network.head, PrototypeHead):
        row["held_out/prototypes"] = float(head_output(network, features).argmax(dim=1).bincount().count_nonzero())
    return row


def feature_std(features: Tensor) -> float:
    """Return √(1 - |mean|²) of the features [M, D] at length 1: 1 without a common direction, 0 if all are the same.

    Features of zeros, which have no direction, count as the same.
    """
    unit = F.normalize(features, dim=1)
    directed = (features != 0).any(dim=1).float().mean()  # 1 where no feature is all zeros
    return (directed - unit.mean(dim=0).square().sum()).clamp(min=0).sqrt().item()


def two_views(network: Network, images: Images, views: Views) -> tuple[Tensor, Tensor]:
    """Unit features [M, D] of two random views of each image, the same at every call; network: in eval mode."""
    generator = torch.Generator(images.device).manual_seed(0)
    parts = []
    for start in range(0, len(images), BATCH):
        batch = images.part(start, start + BATCH)
        pair = [in_parts(network.features, views(batch, generator)) for _ in range(2)]
        parts.append(F.normalize(torch.stack(pair), dim=2))
    first, second = torch.cat(parts, dim=1)
    return first, second


def view_retrieval(first: Tensor, second: Tensor) -> float:
    """Share of rows i of [M, D] unit features `first` that are nearest to row i of `second`."""
    nearest = (first @ second.T).argmax(dim=1)
    return float((nearest == torch.arange(len(first), device=first.device)).float().mean())
