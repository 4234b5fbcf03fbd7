"""Geometric operations with parameters for each image: affine maps, crops, flips, shifts, rotations and Cutout.

A map is a matrix [B, 3, 3] from homogeneous coordinates of an output pixel to the input point that it is read from, in
pixels from the image's centre, x to the right and y down. `compose` combines maps and `warp` applies the result, so
that several maps need only one interpolation.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Padding = Literal["zeros", "border", "reflection"]
Interpolation = Literal["bilinear", "nearest", "bicubic"]


def affine_matrix(
    *, angle: Tensor, shear_x: Tensor, shear_y: Tensor, scale: Tensor, translate_x: Tensor, translate_y: Tensor
) -> Tensor:
    """Return the map that shears by x, then by y, scales, rotates about the centre, and translates; [B, 3, 3].

    angle: [B], degrees, clockwise. shear_x, shear_y: [B], pixels of shift per pixel of the other axis.
    scale: [B]; a scale above 1 enlarges. translate_x, translate_y: [B], pixels, right and down.
    It is the map of torchvision's `affine`, whose shear is an angle in degrees.
    """
    radians = torch.deg2rad(angle)
    cos, sin = torch.cos(radians) / scale, torch.sin(radians) / scale
    # The inverse map: it undoes the translation, then the rotation and scale, the shear by y, and the shear by x.
    xx, xy = cos, sin
    yx, yy = shear_y * cos - sin, shear_y * sin + cos
    xx, xy = xx + shear_x * yx, xy + shear_x * yy
    return _matrix(xx, xy, -xx * translate_x - xy * translate_y, yx, yy, -yx * translate_x - yy * translate_y)


def crop_matrix(*, left: Tensor, top: Tensor, width: Tensor, height: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the map that enlarges a box to the whole image; [B, 3, 3].

    left, top, width, height: [B], the box in pixels, which need not be integers. size: the image's (height, width).
    """
    image_height, image_width = size
    none = torch.zeros_like(left)
    offset_x, offset_y = left + width / 2 - image_width / 2, top + height / 2 - image_height / 2
    return _matrix(width / image_width, none, offset_x, none, height / image_height, offset_y)


def flip_matrix(flipped: Tensor) -> Tensor:
    """Return the map that flips left and right where `flipped` (bool [B]) is true; [B, 3, 3]."""
    one, none = torch.ones_like(flipped, dtype=torch.float32), torch.zeros_like(flipped, dtype=torch.float32)
    return _matrix(torch.where(flipped, -one, one), none, none, none, one, none)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Return the map that applies `first` to an image and `then` to the result; [B, 3, 3]."""
    # Not a matrix product, since autocast or TF32 would round the coordinates by fractions of a pixel.
    return (first[:, :, :, None] * then[:, None, :, :]).sum(2)


def warp(
    image: Tensor,
    matrix: Tensor,
    padding: Padding = "zeros",
    *,
    size: int | None = None,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Apply a map to each image.

    image: float [B, C, H, W] in [0, 1], to which bicubic interpolation is clamped. matrix: [B, 3, 3]. padding: values
    outside the image. size: side of the result in pixels; None: [H, W]. interpolation: bicubic is torch's cubic
    convolution (a = -0.75; Pillow's has -0.5). There is no antialiasing: a box of more than twice the size is aliased,
    but small views are cropped from small boxes and rarely reduced so much.
    """
    height, width = image.shape[-2:]
    x = _spread(size or width, image.device) * (width / 2)
    y = _spread(size or height, image.device) * (height / 2)
    entry = matrix[:, :, :, None, None]
    at_x = entry[:, 0, 0] * x + entry[:, 0, 1] * y[:, None] + entry[:, 0, 2]
    at_y = entry[:, 1, 0] * x + entry[:, 1, 1] * y[:, None] + entry[:, 1, 2]
    grid = torch.stack([at_x * (2 / width), at_y * (2 / height)], dim=-1)
    if interpolation == "bicubic":
        # torch has no bicubic one on Apple's GPUs, not even by its fallback.
        source = image.cpu() if image.device.type == "mps" else image
        view = grid_sample(source, grid.to(source.device), mode="bicubic", padding_mode=padding, align_corners=False)
        return view.clamp(0, 1).to(image.device)
    return grid_sample(image, grid, mode=interpolation, padding_mode=padding, align_corners=False)


def _spread(count: int, device: torch.device) -> Tensor:
    """Return the centres of `count` equal parts of [-1, 1]."""
    return (2 * torch.arange(count, device=device) + 1 - count) / count


def horizontal_flip(image: Tensor, flipped: Tensor) -> Tensor:
    """Flip left and right of images [B, C, H, W] where `flipped` (bool [B]) is true."""
    return torch.where(flipped[:, None, None, None], image.flip(-1), image)


def shift(image: Tensor, *, right: Tensor, down: Tensor, padding: Padding = "reflection") -> Tensor:
    """Move images [B, C, H, W] of any type by int64 [B] pixels.

    padding: values outside the image. This is the same as such a padding followed by a crop. A shift must be smaller
    than the image's side.
    """
    height, width = image.shape[-2:]
    row = torch.arange(height, device=image.device) - down[:, None]
    column = torch.arange(width, device=image.device) - right[:, None]
    inner = _reflected if padding == "reflection" else _nearest
    moved = image.gather(2, inner(row, height)[:, None, :, None].expand_as(image))
    moved = moved.gather(3, inner(column, width)[:, None, None, :].expand_as(image))
    if padding == "zeros":
        inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None, :]
        moved = moved * inside[:, None]
    return moved


def window(image: Tensor, *, left: Tensor, top: Tensor, side: int) -> Tensor:
    """Cut side × side pixels out of each image [B, C, H, W] of any type; left, top: int64 [B], first column and row."""
    place = torch.arange(side, device=image.device)
    rows, columns = top[:, None] + place, left[:, None] + place
    count, channels, _, width = image.shape
    cut = image.gather(2, rows[:, None, :, None].expand(count, channels, side, width))
    return cut.gather(3, columns[:, None, None, :].expand(count, channels, side, side))


def all_rotations(image: Tensor) -> Tensor:
    """Rotate square images [B, C, H, H] by 0, 90, 180 and 270°: [4B, C, H, H], first all images rotated by 0°."""
    return torch.cat([image.rot90(rotation, (2, 3)) for rotation in range(4)])


def cutout(image: Tensor, *, center_x: Tensor, center_y: Tensor, side: Tensor, fill: Tensor) -> Tensor:
    """Fill a square of each image with a colour (Cutout, DeVries & Taylor 2017).

    image: float [B, C, H, W]. center_x, center_y, side: int64 [B], pixels; the square may exceed the image. fill: [C],
    the colour.
    """
    hole_x = within(center_x - side // 2, side, image.shape[-1])
    hole_y = within(center_y - side // 2, side, image.shape[-2])
    return torch.where(hole_x[:, None, None, :] & hole_y[:, None, :, None], fill[:, None, None], image)


def _matrix(xx: Tensor, xy: Tensor, x: Tensor, yx: Tensor, yy: Tensor, y: Tensor) -> Tensor:
    none, one = torch.zeros_like(xx), torch.ones_like(xx)
    return torch.stack([xx, xy, x, yx, yy, y, none, none, one], dim=1).view(-1, 3, 3)


def _reflected(place: Tensor, size: int) -> Tensor:
    """Reflect positions in -(size-1)..2(size-1) at the centres of the first and the last pixel into 0..size-1."""
    return (size - 1) - ((size - 1) - place.abs()).abs()


def _nearest(place: Tensor, size: int) -> Tensor:
    """Move positions outside 0..size-1 to the nearest of these."""
    return place.clamp(0, size - 1)


def within(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return bool [B, size]: which of `size` positions are in start..start+length-1."""
    place = torch.arange(size, device=start.device)
    return (place >= start[:, None]) & (place < (start + length)[:, None])
