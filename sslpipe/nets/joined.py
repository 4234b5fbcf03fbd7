"""Several networks of timm as one backbone: the L2-normalised features of each, one after the other."""

from collections.abc import Sequence
from math import lcm

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.errors import UserError
from sslpipe.nets.architecture_names import names_of
from sslpipe.nets.layers import Backbone
from sslpipe.nets.timm_backbone import TimmBackbone, timm_config


def timm_backbone(
    *, architecture: str, channels: int, unit_features: bool = False, side: int | None = None
) -> Backbone:
    """Return the backbone of `network.architecture`: a network of timm, or several joined by +.

    unit_features: whether the features of each are L2-normalised. side: of the images, pixels; None: the network's own.
    Raises UserError for an architecture that timm does not have, a side that it does not take, and a network that is
    given twice.
    """
    names = names_of(architecture)
    seen = set()
    for name in names:
        config = timm_config(name)
        if (key := (config.architecture, config.tag)) in seen:
            raise UserError(f"network.architecture: '{architecture}' found, which has {name} twice; delete one")
        seen.add(key)
    networks = [TimmBackbone(architecture=name, channels=channels, side=side) for name in names]
    return JoinedBackbone(networks, channels) if unit_features else networks[0]


class JoinedBackbone(Backbone):
    """Networks that see the same images, each with an input normalisation of its own.

    The features [B, D₁ + D₂ + …] are the L2-normalised features of each network, one after the other, in float32.
    """

    scale: Tensor
    """Factor of each network's input, [networks, C, 1, 1]."""
    shift: Tensor
    """What is added to it, [networks, C, 1, 1]."""

    def __init__(self, networks: Sequence[TimmBackbone], channels: int) -> None:
        """Join networks for images of `channels` channels; all see their input as it is, until `normalise`."""
        super().__init__()
        self.networks = nn.ModuleList(networks)
        # Stored with the weights, so that a model does not depend on a table of timm that may change.
        self.register_buffer("scale", torch.ones(len(networks), channels, 1, 1))
        self.register_buffer("shift", torch.zeros(len(networks), channels, 1, 1))
        self._parts = tuple(network.dimension for network in networks)
        self.dimension = sum(self._parts)
        sides = [network.side_multiple for network in networks]
        self.side_multiple = None if None in sides else lcm(*(side for side in sides if side is not None))

    @property
    def parts(self) -> tuple[int, ...]:
        """Dimensions of the networks' features, in their order."""
        return self._parts

    @property
    def block_count(self) -> int:
        """Number of blocks of the network with the fewest."""
        return min(network.block_count for network in self._networks())

    def distances(self) -> dict[str, int]:
        """Return the distance of each weight from the head, in blocks of its own network, by its name."""
        found: dict[str, int] = {}
        for i, network in enumerate(self._networks()):
            found |= {f"networks.{i}.{name}": distance for name, distance in network.distances().items()}
        return found

    def _networks(self) -> list[TimmBackbone]:
        return [network for network in self.networks if isinstance(network, TimmBackbone)]

    @torch.no_grad()
    def normalise(self, means: Sequence[Sequence[float]], stds: Sequence[Sequence[float]]) -> None:
        """Set each network's mean and standard deviation of the channels of images in [0, 1].

        The input of the backbone is normalised by the first network's. With (x − m₁) / s₁ given, (x − m) / s is that
        times s₁ / s, plus (m₁ − m) / s. Where they are the same nothing changes.
        """
        for i, (mean, std) in enumerate(zip(means, stds, strict=True)):
            for c, (m, s, first, width) in enumerate(zip(mean, std, means[0], stds[0], strict=True)):
                self.scale[i, c], self.shift[i, c] = width / s, (first - m) / s

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W], normalised as the first network expects, to features [B, dimension]."""
        features = [
            F.normalize(network(x * self.scale[i] + self.shift[i]).float(), dim=1)
            for i, network in enumerate(self.networks)
        ]
        return torch.cat(features, dim=1)
