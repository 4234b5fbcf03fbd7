"""CTAugment's rescale: the middle of an image, enlarged to the whole by one of Pillow's resampling methods."""

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor


def _lanczos(x: Tensor) -> Tensor:
    return torch.sinc(x) * torch.sinc(x / 3) * (x < 3)


def _bicubic(x: Tensor) -> Tensor:
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, far * (x < 2))


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x).clamp(min=0)


def _box(x: Tensor) -> Tensor:
    return (x <= 0.5).to(x.dtype)


def _hamming(x: Tensor) -> Tensor:
    return torch.sinc(x) * (0.54 + 0.46 * torch.cos(pi * x)) * (x < 1)


METHODS: tuple[Callable[[Tensor], Tensor], ...] = (_lanczos, _bicubic, _bilinear, _box, _hamming, _box)
"""Kernels, functions of the distance in pixels, in the order of FixMatch's public code; an enlargement by the nearest
pixel, the last one, is one by a box."""


def rescale(image: Tensor, level: Tensor, detail: Tensor) -> Tensor:
    """Enlarge the middle of each image to the whole image.

    image: float [B, C, H, W] in [0, 1]. level: [B] in [0, 1]; the middle has 1 - level / 2 of the sides, rounded to
    pixels. detail: [B] in [0, 1), the method: its sixths are those of `METHODS`.
    """
    count, channels, height, width = image.shape
    method = (detail * len(METHODS)).long().clamp(max=len(METHODS) - 1)
    with torch.autocast(image.device.type, enabled=False):
        rows = _weights(height, level / 4, method)
        columns = rows if height == width else _weights(width, level / 4, method)
        along = image.reshape(count, channels * height, width) @ columns.transpose(1, 2)
        along = along.clamp_(0, 1).view(image.shape).transpose(1, 2).reshape(count, height, channels * width)
        across = rows @ along
    return across.clamp_(0, 1).view(count, height, channels, width).transpose(1, 2)


def _weights(side: int, margin: Tensor, method: Tensor) -> Tensor:
    """Return [B, side, side]: weights of the input pixels for each output pixel; margin: [B], fraction of the side."""
    start, stop = ((edge * side).round()[:, None, None] for edge in (margin, 1 - margin))
    pixel = torch.arange(side, device=margin.device)
    center = start + (pixel[:, None] + 0.5) * ((stop - start) / side)
    distance = (pixel + 0.5 - center).abs()
    weight = torch.zeros_like(distance)
    for number, kernel in enumerate(METHODS):
        weight = torch.where(method[:, None, None] == number, kernel(distance), weight)
    weight = weight * ((pixel >= start) & (pixel < stop))
    return weight / weight.sum(2, keepdim=True)
