"""A network: normalisation, backbone, head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Fraction, Range
from sslpipe.nets.heads import Head, HeadSettings, build_head
from sslpipe.nets.layers import Backbone
from sslpipe.nets.resnet import Stem, resnet18, resnet34, resnet50
from sslpipe.nets.tiny_resnet import tiny_resnet
from sslpipe.nets.vit import vit_mini_4, vit_small_16, vit_tiny_4
from sslpipe.nets.wide_resnet import WideResNet

Builders = dict[str, Callable[..., Backbone]]
RESNETS: Builders = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
"""These take a stem."""
VITS: Builders = {"vit_small_16": vit_small_16, "vit_tiny_4": vit_tiny_4, "vit_mini_4": vit_mini_4}
"""These take a rate of stochastic depth."""
BACKBONES: Builders = {
    "tiny_resnet": tiny_resnet,
    "wrn_28_2": partial(WideResNet, groups=3, widen=2),
    "wrn_28_8": partial(WideResNet, groups=3, widen=8),
    "wrn_37_2": partial(WideResNet, groups=4, widen=2),
    **RESNETS,
    **VITS,
}


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """Which backbone."""

    name: Literal[
        "tiny_resnet",
        "resnet18",
        "resnet34",
        "resnet50",
        "wrn_28_2",
        "wrn_28_8",
        "wrn_37_2",
        "vit_small_16",
        "vit_tiny_4",
        "vit_mini_4",
    ]
    stem: Stem = "cifar"
    """How resnet18, 34 and 50 begin. cifar: 3×3, for 32 px. stl: 3×3 and max-pool of 2, for 96 px. imagenet: 7×7 of
    stride 2 and max-pool of 3, for 224 px. The others have their own beginning, which is called cifar here."""
    batch_norm_momentum: Annotated[float, Range(above=0, high=1)] = 0.1
    """What the running statistics take from each batch. 0.1 is torch's default; the FixMatch family trains its wide
    ResNets with 0.001, at which the statistics are of use after thousands of steps only. The vits have no such norm."""
    drop_path: Fraction = 0.0
    """Rate of stochastic depth in a vit's last block; it rises linearly from 0 in the first. DINO and DeiT take 0.1."""


class Network(nn.Module):
    """Images as floats in [0, 1], [B, C, H, W], to the head's output.

    The normalisation is part of the network, so that whoever loads it need not know of it. Its mean and deviation are
    no weights: they stand in model.json, not in the state_dict.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: BackboneSettings,
        head: HeadSettings | None = None,
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """head: None leaves the features as they are, until a method puts its own in `head`.

        mean, std: per channel, of images in [0, 1]; there are as many channels as values.
        Start values are drawn from torch's global generator, the backbone's first.
        """
        super().__init__()
        self.settings = backbone
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.backbone = build_backbone(backbone, len(mean))
        self.head: Head = build_head(head, self.backbone.dimension)

    def features(self, images: Tensor) -> Tensor:
        """The backbone's features, [B, backbone.dimension], of float images [B, C, H, W] in [0, 1]."""
        features: Tensor = self.backbone((images - self.mean) / self.std)
        return features

    def features_of(self, views: Sequence[Tensor]) -> list[Tensor]:
        """The backbone's features of several views, which may differ in size; one forward a size (SwAV, multi-crop)."""
        features: dict[int, Tensor] = {}
        for size in dict.fromkeys(view.shape[-1] for view in views):
            places = [place for place, view in enumerate(views) if view.shape[-1] == size]
            joint = self.features(torch.cat([views[place] for place in places]))
            features |= dict(zip(places, torch.split(joint, [len(views[place]) for place in places]), strict=True))
        return [features[place] for place in range(len(views))]

    def forward(self, images: Tensor) -> Tensor:
        """The head's output for float images [B, C, H, W] in [0, 1]."""
        output: Tensor = self.head(self.features(images))
        return output


def build_network(backbone: BackboneSettings, info: StoreInfo) -> Network:
    """A new network without a head for the images of a store."""
    return Network(backbone, mean=info.mean, std=info.std)


def build_backbone(settings: BackboneSettings, channels: int) -> Backbone:
    """The backbone for images of `channels` channels, its start values drawn from torch's global generator.

    Raises UserError for a stem or a stochastic depth where the backbone has none.
    """
    name = settings.name
    options: dict[str, Any] = {"channels": channels}
    if name in RESNETS:
        options["stem"] = settings.stem
    elif settings.stem != "cifar":
        raise UserError(f"network.stem: '{settings.stem}' found, expected 'cifar', the only one of {name}")
    if name in VITS:
        options["drop_path"] = settings.drop_path
    elif settings.drop_path:
        raise UserError(f"network.drop_path: {settings.drop_path:g} found, expected 0, since {name} has none")
    backbone = BACKBONES[name](**options)
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = settings.batch_norm_momentum
    return backbone
