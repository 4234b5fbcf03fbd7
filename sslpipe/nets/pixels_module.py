"""From uint8 images to a network's features, without what exporters and other runtimes do not have."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.data.images import central_square
from sslpipe.nets.network import Network
from sslpipe.nets.preprocessing import InputSettings, is_view


class PixelsModule(nn.Module):
    """The part of a network from uint8 images [B, C, size, size] to the backbone's features [B, D].

    Unlike `Network` it has no branch that depends on the batch size. It resizes images by two matrix products, which
    every runtime supports, unlike torch's antialiased interpolation.
    """

    input_mean: Tensor
    """Mean of each channel, [C, 1, 1]."""
    input_std: Tensor
    """Standard deviation of each channel, [C, 1, 1]."""
    resize: Tensor | None
    """The matrix of `resize_matrix`; None if images are not resized."""

    def __init__(self, network: Network, *, size: int) -> None:
        """Share the backbone of a network; size: side of the images, pixels."""
        super().__init__()
        self.backbone = network.backbone
        input = None if is_view(size, network.side) else network.input
        self.overshoots = input is not None and input.interpolation == "bicubic"
        self.side = network.side
        self.register_buffer("input_mean", network.mean)
        self.register_buffer("input_std", network.std)
        self.register_buffer("resize", resize_matrix(input, size) if input else None)

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images [B, C, size, size] to float32 features [B, D]."""
        pixels = images.float() / 255
        if self.resize is not None:
            pixels = self.resize @ pixels @ self.resize.T  # [B, C, crop, crop]
            if self.overshoots:
                pixels = pixels.clamp(0, 1)
        elif self.side is not None:
            pixels = central_square(pixels, self.side)
        features: Tensor = self.backbone((pixels - self.input_mean) / self.input_std)
        return features


def out_of_place(module: nn.Module) -> None:
    """Let the activations in a module return new tensors, with the same values, instead of changing their input.

    torch's exporter decomposes those that change it, which takes most of its time for ReLU6.
    """
    for each in module.modules():
        if getattr(each, "inplace", False) is True:
            each.inplace = False  # type: ignore[assignment]


def resize_matrix(settings: InputSettings, size: int) -> Tensor:
    """Return the matrix R [crop, size] with R X Rᵀ = `resize_and_crop` of a square X [size, size], without its clamp.

    Interpolation is linear, separable and the same for rows and columns, so that R is the interpolated identity matrix.
    """
    options: dict[str, Any] = {}
    if settings.interpolation != "nearest":
        options = {"mode": settings.interpolation, "antialias": True}
    rows = F.interpolate(torch.eye(size)[None, None], [settings.resize, size], **options)[0, 0]  # [resize, size]
    top = round((settings.resize - settings.crop) / 2)
    return rows[top : top + settings.crop].contiguous()
