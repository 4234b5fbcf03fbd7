"""Random crops by the rule of torchvision's `RandomResizedCrop`, which every public run of these methods has."""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from sslpipe.views.draw import Draw
from sslpipe.views.geometry import crop_matrix

TRIES = 10
"""Boxes that are drawn for each image; the first that fits into the image is taken (torchvision)."""


def random_crop(scale: Sequence[float], ratio: Sequence[float], size: tuple[int, int], draw: Draw) -> Tensor:
    """Return the maps of random boxes, [B, 3, 3]; the parameters are those of `random_boxes`."""
    left, top, width, height = random_boxes(scale, ratio, size, draw)
    return crop_matrix(left=left, top=top, width=width, height=height, size=size)


def random_boxes(
    scale: Sequence[float], ratio: Sequence[float], size: tuple[int, int], draw: Draw
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return left, top, width and height of random boxes in whole pixels, float32 [B] each.

    A box has a uniform area and a ratio whose logarithm is uniform. If it exceeds the image, both are drawn again, so
    that large boxes are rarer than small ones; after ten tries it is the largest box in the middle of the image with a
    ratio in the interval. All tries are drawn at once, so sizes are static and the device is never waited for.
    scale: minimum and maximum area, as a fraction of the image's. ratio: minimum and maximum of width / height.
    size: the image's (height, width).
    """
    height, width = size
    area = draw.uniforms(TRIES, scale[0], scale[1]) * (height * width)
    aspect = draw.uniforms(TRIES, log(ratio[0]), log(ratio[1])).exp()
    widths, heights = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first, any_fits = fits.int().argmax(1, keepdim=True), fits.any(1)
    whole_width, whole_height = _largest(ratio, size)
    box_width = torch.where(any_fits, widths.gather(1, first)[:, 0], whole_width)
    box_height = torch.where(any_fits, heights.gather(1, first)[:, 0], whole_height)
    left = torch.where(any_fits, _offset(width - box_width, draw), (width - whole_width) // 2)
    top = torch.where(any_fits, _offset(height - box_height, draw), (height - whole_height) // 2)
    return left, top, box_width, box_height


def _largest(ratio: Sequence[float], size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of the largest box with a ratio in the interval."""
    height, width = size
    own = width / height
    if own < ratio[0]:
        return width, max(round(width / ratio[0]), 1)
    return (max(round(height * ratio[1]), 1), height) if own > ratio[1] else (width, height)


def _offset(room: Tensor, draw: Draw) -> Tensor:
    """Return whole numbers, uniform in 0..room."""
    return torch.minimum((draw.uniform(0.0, 1.0) * (room + 1)).floor(), room)
