"""Residual networks (He et al. 2016, table 1) with stems for images of about 32, 96 and 224 px."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.nets.layers import Backbone, convolution, initialise
from sslpipe.nets.recompute import run_parts

Stem = Literal["cifar", "stl", "imagenet"]


class _Block(nn.Module):
    """A residual block: relu(residual(x) + shortcut(x))."""

    expansion: int
    """Ratio of the block's output channels to its width."""

    def __init__(self, residual: nn.Sequential, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


class BasicBlock(_Block):
    """A residual block of two 3×3 convolutions (He et al. 2016, figure 5, left)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        residual = nn.Sequential(
            convolution(inputs, width, 3, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            convolution(width, width, 3),
            nn.BatchNorm2d(width),
        )
        super().__init__(residual, inputs, width, stride)


class Bottleneck(_Block):
    """A residual block of a 1×1, a 3×3 and a 1×1 convolution (He et al. 2016, figure 5, right).

    The 3×3 convolution has the stride, as in public code and weights; in the paper it is the first 1×1 convolution.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        outputs = width * self.expansion
        residual = nn.Sequential(
            convolution(inputs, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            convolution(width, width, 3, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            convolution(width, outputs, 1),
            nn.BatchNorm2d(outputs),
        )
        super().__init__(residual, inputs, outputs, stride)


class ResNet(Backbone):
    """A stem, groups of residual blocks and global average pooling; every group after the first halves the image."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        *,
        blocks: Sequence[int],
        widths: Sequence[int],
        stem: Stem,
        channels: int,
        first_stride: int = 1,
    ) -> None:
        """Build the network.

        blocks, widths: number of blocks of each group, and their width. channels: number of image channels.
        first_stride: stride of the first group; 2 halves the image there too.
        """
        super().__init__()
        self.stem = _stem(stem, channels, widths[0])
        layers: list[nn.Module] = []
        inputs = widths[0]
        for group, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stride = 2 if group > 0 else first_stride
            for place in range(count):
                layers.append(block(inputs, width, stride=stride if place == 0 else 1))
                inputs = width * block.expansion
        self.blocks = nn.Sequential(*layers)
        self.dimension = inputs
        initialise(self)

    def block_modules(self) -> Sequence[nn.Module]:
        """Return the blocks."""
        return tuple(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to features [B, dimension]."""
        return run_parts(self, (self.stem, *self.blocks), x).mean(dim=(2, 3))


def _stem(kind: Stem, channels: int, width: int) -> nn.Sequential:
    """Return a stem: `cifar` keeps the image's size, `stl` halves it, `imagenet` divides it by 4."""
    size, stride = (7, 2) if kind == "imagenet" else (3, 1)
    layers = [convolution(channels, width, size, stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    if kind == "stl":
        # SCAN's public code (arXiv:2005.12320) pads by 1, so that 96 px give feature maps of side 49, 25, 13, 7; 48,
        # 24, 12, 6 cost less.
        layers.append(nn.MaxPool2d(2))
    elif kind == "imagenet":
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers)


def resnet18(*, stem: Stem, channels: int) -> ResNet:
    """Return a ResNet-18, whose features have dimension 512."""
    return ResNet(BasicBlock, blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512), stem=stem, channels=channels)


def resnet34(*, stem: Stem, channels: int) -> ResNet:
    """Return a ResNet-34, whose features have dimension 512."""
    return ResNet(BasicBlock, blocks=(3, 4, 6, 3), widths=(64, 128, 256, 512), stem=stem, channels=channels)


def resnet50(*, stem: Stem, channels: int) -> ResNet:
    """Return a ResNet-50, whose features have dimension 2048."""
    return ResNet(Bottleneck, blocks=(3, 4, 6, 3), widths=(64, 128, 256, 512), stem=stem, channels=channels)
