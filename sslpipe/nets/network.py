"""A network: input normalisation, a backbone and a head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn

from sslpipe.data import world
from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, Range
from sslpipe.nets.architecture_names import names_of
from sslpipe.nets.heads import Head, HeadSettings, build_head
from sslpipe.nets.joined import timm_backbone
from sslpipe.nets.layers import Backbone, ConvolutionInit
from sslpipe.nets.passes import BatchStatistics, forward_groups
from sslpipe.nets.pixels import Pixels
from sslpipe.nets.preprocessing import InputSettings, is_view, resize, seen_of
from sslpipe.nets.recompute import set_recompute
from sslpipe.nets.resnet import Stem, resnet18, resnet34, resnet50
from sslpipe.nets.small_resnet import small_resnet
from sslpipe.nets.synced_norm import synced_batch_norms
from sslpipe.nets.tiny_resnet import tiny_resnet
from sslpipe.nets.vit import vit_mini_4, vit_small_16, vit_tiny_4
from sslpipe.nets.wide_resnet import WideResNet

Builders = dict[str, Callable[..., Backbone]]
RESNETS: Builders = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
"""Backbones with the setting `stem`."""
VITS: Builders = {"vit_small_16": vit_small_16, "vit_tiny_4": vit_tiny_4, "vit_mini_4": vit_mini_4}
"""Backbones with the setting `drop_path`."""
BACKBONES: Builders = {
    "tiny_resnet": tiny_resnet,
    "small_resnet": small_resnet,
    "wrn_28_2": partial(WideResNet, groups=3, widen=2),
    "wrn_28_8": partial(WideResNet, groups=3, widen=8),
    "wrn_37_2": partial(WideResNet, groups=4, widen=2),
    **RESNETS,
    **VITS,
    "timm": timm_backbone,
    "pixels": Pixels,
}
OPTIONS: dict[str, str] = {
    **dict.fromkeys(RESNETS, "stem"),
    **dict.fromkeys(VITS, "drop_path"),
    "timm": "architecture",
}
"""The setting of BackboneSettings that a backbone has; the others have none. timm's also have unit_features."""

PIXEL_SIDE = 32
"""Largest side of images whose pixels are compared (own choice: 3,072 values of a colour image)."""
RESIZED_AT_ONCE = 64
"""Images per forward in eval mode if they are resized, which limits the memory needed (own choice)."""


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The backbone of a network."""

    name: Literal[
        "tiny_resnet",
        "small_resnet",
        "resnet18",
        "resnet34",
        "resnet50",
        "wrn_28_2",
        "wrn_28_8",
        "wrn_37_2",
        "vit_small_16",
        "vit_tiny_4",
        "vit_mini_4",
        "timm",
        "pixels",
    ]
    """The kind of network; timm takes its architecture from `architecture`."""
    architecture: str | None = None
    """timm's name of the architecture, with or without the tag of its weights (resnet50.tv_in1k: torchvision's); null
    for all other backbones. Several, joined by +, give the features of each, one after the other; they need
    unit_features."""
    unit_features: bool = False
    """Whether the features of each network of timm are L2-normalised, so that joined ones count alike; several need
    it."""
    stem: Stem = "cifar"
    """First layers of resnet18, 34 and 50. cifar: 3×3, for 32 px. stl: 3×3 and max-pool of 2, for 96 px. imagenet: 7×7
    of stride 2 and max-pool of 3, for 224 px. All other backbones have only cifar, which stands for their own stem."""
    batch_norm_momentum: Annotated[float, Range(above=0, high=1)] = 0.1
    """Weight of each batch in the running statistics. 0.1 is torch's default; FixMatch (arXiv:2001.07685) trains its
    wide ResNets with 0.001, with which the statistics are useful only after thousands of steps. Vision transformers
    have no batch norm. Larger: the statistics follow the last batches sooner, with more noise."""
    drop_path: Fraction = 0.0
    """Rate of stochastic depth in a vit's last block; it increases linearly from 0 in the first. It is 0.1 in DINO
    (arXiv:2104.14294). Larger: more blocks are skipped, so stronger regularisation, slower learning."""
    convolution_init: ConvolutionInit = "he"
    """Start values of the convolutions. he: normal, of variance 2 / (outputs × kernel area) (He et al. 2015, eq. 14;
    public code of FixMatch). torch: torch's own, uniform within ±1 / √(inputs × kernel area), half as large or less
    (public CIFAR code of Wu et al., RotNet and Feature Decoupling). Before a batch norm the size of a weight changes no
    output, but smaller weights turn faster. Not for vits and timm."""
    side: Count | None = None
    """Side of the squares that the network sees, pixels, at most prepare.size; null: prepare.size. It is trained on
    crops of this side and answers on the centre of an image. On ImageNet 224 of 256 px, in nearly all public code.
    Larger: more detail; time and memory grow with its square."""
    recompute: bool = field(default=False, repr=False, compare=False)
    """Whether training recomputes the activations of each block in the backward pass instead of keeping them (Chen et
    al. 2016, arXiv:1604.06174). true: a fraction of the memory, for about a third more time; results are the same. It
    is a choice for each run: models do not depend on it and are stored without it. Not for pixels, nor for all of
    timm's."""

    def build(self, channels: int, *, side: int | None = None) -> Backbone:
        """Return the backbone for images of `channels` channels, initialised from torch's global generator.

        side: of the images that a network of timm is built for, pixels, if it takes one side alone; None: its own.
        Raises UserError for a stem, a stochastic depth, an architecture or a side that the backbone does not have, and
        for one that cannot recompute its activations.
        """
        option = OPTIONS.get(self.name)
        self._check(option)
        options = {option: getattr(self, option)} if option else {}
        if option == "architecture":
            options["unit_features"] = self.unit_features
        if self.name in ("timm", "pixels"):
            options["side"] = side
        backbone = BACKBONES[self.name](channels=channels, **options)
        for layer in backbone.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = self.batch_norm_momentum
            elif isinstance(layer, nn.Conv2d) and self.convolution_init == "torch":
                layer.reset_parameters()
        if self.recompute:
            set_recompute(backbone, True)
        return backbone

    def check_side(self, size: int) -> None:
        """Raise UserError if the network's side is larger than the images, whose side is `size`."""
        if self.side is not None and self.side > size:
            raise UserError(f"network.side: {self.side} found, expected at most prepare.size, {size}")

    def _check(self, option: str | None) -> None:
        """Raise UserError for a setting other than `option` that is set, and for a missing architecture."""
        if option == "architecture" and self.architecture is None:
            raise UserError("network.architecture: missing, expected one of timm's, such as resnet50.tv_in1k")
        if option != "architecture" and self.architecture is not None:
            raise UserError(
                f"network.architecture: '{self.architecture}' found, expected none with the name {self.name}; "
                "set network.name: timm"
            )
        if option != "architecture" and self.unit_features:
            raise UserError(f"network.unit_features: true found, expected false with the name {self.name}")
        if self.architecture and len(names_of(self.architecture)) > 1 and not self.unit_features:
            raise UserError(
                "network.unit_features: false found, expected true, since the features of several networks "
                f"({self.architecture}) are joined"
            )
        if self.name == "pixels" and self.recompute:
            raise UserError("network.recompute: true found, expected false, since pixels have no activations")
        if option != "stem" and self.stem != "cifar":
            raise UserError(f"network.stem: '{self.stem}' found, expected 'cifar', the only one of {self.name}")
        if option != "drop_path" and self.drop_path:
            raise UserError(f"network.drop_path: {self.drop_path:g} found, expected 0, since {self.name} has none")
        if option in ("drop_path", "architecture") and self.convolution_init != "he":
            raise UserError(
                f"network.convolution_init: '{self.convolution_init}' found, expected none, since {self.name} has an "
                "initialisation of its own"
            )


class Network(nn.Module):
    """A network from float images [B, C, H, W] in [0, 1] to the output of its head.

    The normalisation is part of the network, so that its users need not normalise the images. The mean and the standard
    deviation are not weights: they are stored in model.json, not in the state_dict.
    """

    mean: Tensor
    """Mean of each channel, [C, 1, 1], of images in [0, 1]."""
    std: Tensor
    """Standard deviation of each channel, [C, 1, 1], of images in [0, 1]."""

    def __init__(
        self,
        backbone: BackboneSettings,
        head: HeadSettings | None = None,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        input: InputSettings | None = None,
        channels: int | None = None,
        size: int | None = None,
    ) -> None:
        """Build the network, first the backbone and then the head, with torch's global generator.

        head: None means the identity, until a method assigns a head. mean, std: per channel of the backbone's input,
        for images in [0, 1]. input: how images are resized and cropped first; None means not at all. channels: number
        of image channels; None means the number of means. Grey images can be used with three means. size: side of the
        whole images, pixels (see `Backbone.whole_side`).
        """
        super().__init__()
        self.settings = backbone
        self.input = input
        self.channels = channels or len(mean)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.backbone = backbone.build(len(mean), side=None if input is None else input.crop)
        self.backbone.whole_side = backbone.side or (size if input is None else input.crop)
        self.head: Head = build_head(head, self.backbone.dimension)
        self.frozen: tuple[nn.Module, ...] = ()
        """Parts of the backbone that are not trained, see nets/tuning.py."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but the frozen ones, which stay in eval mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    @property
    def side(self) -> int | None:
        """Side of the squares that the network sees, pixels; None: that of the stored images."""
        return self.settings.side

    @property
    def resize(self) -> Callable[[Tensor], Tensor] | None:
        """How whole images [B, C, H, W] in [0, 1] are resized before a square is cut out of them; None: not at all."""
        return None if self.input is None else partial(resize, settings=self.input)

    @property
    def image_mean(self) -> list[float]:
        """Mean of each image channel, in [0, 1]; for grey images and three means, their average."""
        mean = self.mean.flatten()
        return (mean.mean(dim=0, keepdim=True) if self.channels == 1 else mean).tolist()

    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's features [B, backbone.dimension] of float images [B, C, H, W] in [0, 1].

        Of a batch that several processes share, `images` are this one's rows, and the features are those of all rows.
        Of images larger than the network's side the centre is seen; smaller ones are views, which are not changed.
        """
        resized = self.input is not None and not is_view(max(images.shape[-2:]), self.side)
        if resized and not self.training and len(images) > RESIZED_AT_ONCE:
            return torch.cat([self.features(few) for few in torch.split(images, RESIZED_AT_ONCE)])
        images = seen_of(images, self.side, self.input)
        # With three means, grey images become three channels here: [B, 1, H, W] - [3, 1, 1] is [B, 3, H, W].
        with synced_batch_norms():
            features: Tensor = self.backbone((images - self.mean) / self.std)
        return world.gather(features)

    def features_of(self, views: Sequence[Tensor], statistics: BatchStatistics = "joint") -> list[Tensor]:
        """Return the backbone's features of views; joint statistics: those of one size share a forward."""
        return forward_groups(self.features, views, statistics)

    @property
    def side_multiple(self) -> int | None:
        """The sides of views must be multiples of this; None: the network takes one side alone, or resizes to one."""
        return self.backbone.side_multiple if self.input is None or self.side is not None else None

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of the head for float images [B, C, H, W] in [0, 1]."""
        output: Tensor = self.head(self.features(images))
        return output


def pixel_network(info: StoreInfo) -> Network:
    """Return a network without a head whose features are the pixels of the whole images, at PIXEL_SIDE px at most."""
    side = min(info.size, PIXEL_SIDE)
    return Network(
        BackboneSettings(name="pixels"),
        mean=[0.0] * info.channels,
        std=[1.0] * info.channels,
        input=InputSettings(resize=side, crop=side, interpolation="bilinear"),
        channels=info.channels,
        size=info.size,
    )


def build_network(backbone: BackboneSettings, info: StoreInfo) -> Network:
    """Return a new network without a head for the images of a store."""
    return Network(backbone, mean=info.mean, std=info.std, channels=info.channels, size=info.size)
