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
from sslpipe.nets.libraries import LIBRARIES, InputSettings, Published, resize_and_crop
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
    **{library: partial(Published, library) for library in LIBRARIES},
}


RESIZED_AT_ONCE = 64
"""Images that an answering network takes in one forward where it enlarges them, which costs memory (own choice)."""


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
        "torchvision",
        "timm",
    ]
    architecture: str | None = None
    """Which one of torchvision's or timm's, such as resnet50; the others have none."""
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
        input: InputSettings | None = None,
        channels: int | None = None,
    ) -> None:
        """head: None leaves the features as they are, until a method puts its own in `head`.

        mean, std: per channel of what the backbone sees, of images in [0, 1]. input: how images are resized and
        cropped first; None leaves them as they are. channels: of the images; None says as many as there are means.
        Grey images may meet three means.
        Start values are drawn from torch's global generator, the backbone's first.
        """
        super().__init__()
        self.settings = backbone
        self.input = input
        self.channels = channels or len(mean)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.backbone = build_backbone(backbone, len(mean), side=input.crop if input else None)
        self.head: Head = build_head(head, self.backbone.dimension)

    @property
    def image_mean(self) -> list[float]:
        """Mean colour, one value per channel of the images, in [0, 1]: for grey images the average of three means."""
        mean = self.mean.flatten()
        return (mean.mean(dim=0, keepdim=True) if self.channels == 1 else mean).tolist()

    def features(self, images: Tensor) -> Tensor:
        """The backbone's features, [B, backbone.dimension], of float images [B, C, H, W] in [0, 1]."""
        if self.input is not None:
            if not self.training and len(images) > RESIZED_AT_ONCE:
                return torch.cat([self.features(few) for few in torch.split(images, RESIZED_AT_ONCE)])
            images = resize_and_crop(images, self.input)
        # Grey images become three channels here where the means are three: [B, 1, H, W] - [3, 1, 1] is [B, 3, H, W].
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
    return Network(backbone, mean=info.mean, std=info.std, channels=info.channels)


def build_backbone(settings: BackboneSettings, channels: int, *, side: int | None = None) -> Backbone:
    """The backbone for images of `channels` channels, its start values drawn from torch's global generator.

    side: of the images, pixels, where it is known; only torchvision's vits hang on it.
    Raises UserError for a stem, a stochastic depth or an architecture where the backbone has none.
    """
    name = settings.name
    options: dict[str, Any] = {"channels": channels}
    if name in LIBRARIES:
        if settings.architecture is None:
            raise UserError(f"network.architecture: missing, expected one of {name}'s, such as resnet50")
        options = {"architecture": settings.architecture, "side": side}
    elif settings.architecture is not None:
        raise UserError(
            f"network.architecture: '{settings.architecture}' found, expected none with the name {name}; "
            "set network.name: torchvision or timm"
        )
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
