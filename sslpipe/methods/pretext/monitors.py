"""Figures of a network's features of held-out images, for the history; those that need labels decide nothing."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.device import autocast
from sslpipe.data.images import Images
from sslpipe.methods.watch import Watch
from sslpipe.metrics.neighbors import knn_accuracy, vote_size
from sslpipe.nets.heads import PrototypeHead
from sslpipe.nets.inference import BATCH, head_output, infer
from sslpipe.nets.network import Network
from sslpipe.views.policies import Views

WATCHED = 5000
"""Held-out images that are looked at, the first ones (own choice: their similarities are one small matrix)."""
NOTHING: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {}
FLAT = 0.01
"""A deviation below which all features are the same, up to rounding (own choice)."""


@torch.no_grad()
def look(
    network: Network, watch: Watch, views: Views, further: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = NOTHING
) -> dict[str, float]:
    """Columns of the history; {} with fewer than two held-out images. Leaves the network in eval mode.

    held_out/deviation: √(1 - |mean|²) of the unit features, 1 where they have no common direction, 0 where all are the
    same. held_out/own_view: share of images whose view is nearest to another view of the same image, among all held-out
    ones (how far SCAN's eq. 1 holds). held_out/prototypes: how many prototypes are some image's best.
    further: column → scalar of the unit features [M, D] of two views of each image.
    monitor/knn_acc: weighted vote of the nearest other held-out images (Wu et al. 2018), where labels are known.
    """
    watch = _first(watch, WATCHED)
    images = watch.images
    if len(images) < 2:
        return {}
    network.eval()
    features = infer(network.features, images)
    unit = F.normalize(features, dim=1)
    first, second = two_views(network, images, views)
    row = {
        "held_out/deviation": (1 - unit.mean(dim=0).square().sum()).clamp(min=0).sqrt().item(),
        "held_out/own_view": own_view(first, second),
    }
    row |= {column: figure(first, second).item() for column, figure in further.items()}
    if isinstance(network.head, PrototypeHead):
        row["held_out/prototypes"] = float(head_output(network, features).argmax(dim=1).bincount().count_nonzero())
    if watch.sees:
        row["monitor/knn_acc"] = _knn_accuracy(unit, watch.label)
    return row


def two_views(network: Network, images: Images, views: Views) -> tuple[Tensor, Tensor]:
    """Unit features [M, D] of two random views of each image, the same at every call; network: in eval mode."""
    generator = torch.Generator(images.device).manual_seed(0)
    parts = []
    for start in range(0, len(images), BATCH):
        index = torch.arange(start, min(start + BATCH, len(images)), device=images.device)
        batch = images[index]
        with autocast(images.device):
            pair = [network.features(views(batch, generator)).float() for _ in range(2)]
        parts.append(F.normalize(torch.stack(pair), dim=2))
    first, second = torch.cat(parts, dim=1)
    return first, second


def own_view(first: Tensor, second: Tensor) -> float:
    """Share of rows i of [M, D] unit features `first` that are nearest to row i of `second`."""
    nearest = (first @ second.T).argmax(dim=1)
    return float((nearest == torch.arange(len(first), device=first.device)).float().mean())


def _knn_accuracy(unit: Tensor, label: Tensor) -> float:
    similarity = (unit @ unit.T).fill_diagonal_(-2)
    known = label[label >= 0]
    count = min(vote_size(len(known), int(known.bincount().count_nonzero())), len(unit) - 1)
    nearest = similarity.topk(count, dim=1)
    return knn_accuracy(nearest.values.cpu().numpy(), label[nearest.indices].cpu().numpy(), label.cpu().numpy())


def _first(watch: Watch, most: int) -> Watch:
    if len(watch.images) <= most:
        return watch
    return Watch(watch.images.subset(torch.arange(most)), watch.label[:most])
