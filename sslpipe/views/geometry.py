"""What moves pixels: affine maps, crops, flips, shifts, Cutout; each with parameters per image.

A map is a matrix [B, 3, 3] that takes homogeneous coordinates of an output pixel to the input point it is read from,
in pixels from the image's centre, x to the right and y down. Maps are composed by `compose` and applied at once by
`warp`, so that several of them blur an image only once.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Padding = Literal["zeros", "border", "reflection"]


def affine_matrix(
    *, angle: Tensor, shear_x: Tensor, shear_y: Tensor, scale: Tensor, translate_x: Tensor, translate_y: Tensor
) -> Tensor:
    """The map that shears by x, then by y, scales, rotates about the centre, and translates; [B, 3, 3].

    angle: [B], degrees, clockwise. shear_x, shear_y: [B], pixels of shift per pixel of the other axis.
    scale: [B], above 1 enlarges. translate_x, translate_y: [B], pixels, right and down.
    The same map as torchvision's `affine`, whose shear is given as an angle in degrees.
    """
    radians = torch.deg2rad(angle)
    cos, sin = torch.cos(radians) / scale, torch.sin(radians) / scale
    # The inverse, read backwards: undo the translation, the rotation and scale, the shear by y, the shear by x.
    xx, xy = cos, sin
    yx, yy = shear_y * cos - sin, shear_y * sin + cos
    xx, xy = xx + shear_x * yx, xy + shear_x * yy
    return _matrix(xx, xy, -xx * translate_x - xy * translate_y, yx, yy, -yx * translate_x - yy * translate_y)


def crop_matrix(*, left: Tensor, top: Tensor, width: Tensor, height: Tensor, size: tuple[int, int]) -> Tensor:
    """The map that enlarges a box to the whole image; [B, 3, 3].

    left, top, width, height: [B], the box in pixels, which need not be whole. size: the image's (height, width).
    """
    image_height, image_width = size
    none = torch.zeros_like(left)
    offset_x, offset_y = left + width / 2 - image_width / 2, top + height / 2 - image_height / 2
    return _matrix(width / image_width, none, offset_x, none, height / image_height, offset_y)


def flip_matrix(flipped: Tensor) -> Tensor:
    """The map that swaps left and right where `flipped` (bool [B]) is true; [B, 3, 3]."""
    one, none = torch.ones_like(flipped, dtype=torch.float32), torch.zeros_like(flipped, dtype=torch.float32)
    return _matrix(torch.where(flipped, -one, one), none, none, none, one, none)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The map that does `first` to an image and `then` to the result; [B, 3, 3]."""
    # Not a matrix product, which autocast or TF32 would round to fractions of a pixel.
    return (first[:, :, :, None] * then[:, None, :, :]).sum(2)


def warp(image: Tensor, matrix: Tensor, padding: Padding = "zeros", *, size: int | None = None) -> Tensor:
    """Move each image by its map, in bilinear interpolation.

    image: float [B, C, H, W]. matrix: [B, 3, 3]. padding: what lies outside the image. size: side of the result, which
    is read at points spread evenly over the image; None: [H, W] again. A box of more than twice the size loses fine
    detail to aliasing, which antialiasing would blur; small crops come from small boxes, and are seldom shrunk so much.
    """
    height, width = image.shape[-2:]
    x = _spread(size or width, image.device) * (width / 2)
    y = _spread(size or height, image.device) * (height / 2)
    entry = matrix[:, :, :, None, None]
    at_x = entry[:, 0, 0] * x + entry[:, 0, 1] * y[:, None] + entry[:, 0, 2]
    at_y = entry[:, 1, 0] * x + entry[:, 1, 1] * y[:, None] + entry[:, 1, 2]
    grid = torch.stack([at_x * (2 / width), at_y * (2 / height)], dim=-1)
    return grid_sample(image, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _spread(count: int, device: torch.device) -> Tensor:
    """Centres of `count` equal parts of -1..1."""
    return (2 * torch.arange(count, device=device) + 1 - count) / count


def affine(
    image: Tensor,
    *,
    angle: Tensor | None = None,
    shear_x: Tensor | None = None,
    shear_y: Tensor | None = None,
    scale: Tensor | None = None,
    translate_x: Tensor | None = None,
    translate_y: Tensor | None = None,
    padding: Padding = "zeros",
) -> Tensor:
    """Float images [B, C, H, W] under the maps of `affine_matrix`, whose parameters [B] are off where left out."""
    none, one = image.new_zeros(len(image)), image.new_ones(len(image))
    matrix = affine_matrix(
        angle=none if angle is None else angle,
        shear_x=none if shear_x is None else shear_x,
        shear_y=none if shear_y is None else shear_y,
        scale=one if scale is None else scale,
        translate_x=none if translate_x is None else translate_x,
        translate_y=none if translate_y is None else translate_y,
    )
    return warp(image, matrix, padding)


def resized_crop(image: Tensor, *, left: Tensor, top: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """A box of each image, enlarged to the whole; float [B, C, H, W], box [B] in pixels.

    A box is never larger than the image, so antialiasing would change nothing. Unlike torchvision, which cuts the box
    out and then repeats its rim, the pixels around the box take part in the interpolation at its rim.
    """
    size = (image.shape[-2], image.shape[-1])
    return warp(image, crop_matrix(left=left, top=top, width=width, height=height, size=size), "border")


def horizontal_flip(image: Tensor, flipped: Tensor) -> Tensor:
    """Images [B, C, H, W] with left and right swapped where `flipped` (bool [B]) is true."""
    return torch.where(flipped[:, None, None, None], image.flip(-1), image)


def shift(image: Tensor, *, right: Tensor, down: Tensor) -> Tensor:
    """Images [B, C, H, W] of any type, moved by whole pixels (int64 [B]); what comes in is the image reflected.

    The same as reflect padding followed by a crop. A shift is smaller than the image's side.
    """
    height, width = image.shape[-2:]
    rows = _reflected(torch.arange(height, device=image.device) - down[:, None], height)
    columns = _reflected(torch.arange(width, device=image.device) - right[:, None], width)
    moved = image.gather(2, rows[:, None, :, None].expand_as(image))
    return moved.gather(3, columns[:, None, None, :].expand_as(image))


def quarter_turns(image: Tensor) -> Tensor:
    """Square images [B, C, H, H] to [4B, C, H, H]: all of them upright, then after one quarter turn, two, three."""
    return torch.cat([image.rot90(quarter, (2, 3)) for quarter in range(4)])


def cutout(image: Tensor, *, center_x: Tensor, center_y: Tensor, side: Tensor, fill: Tensor) -> Tensor:
    """Cover a square of each image (Cutout, DeVries & Taylor 2017); what lies outside the image is lost.

    image: float [B, C, H, W]. center_x, center_y, side: int64 [B], pixels. fill: [C], the colour of the square.
    """
    hole_x = _within(center_x - side // 2, side, image.shape[-1])
    hole_y = _within(center_y - side // 2, side, image.shape[-2])
    return torch.where(hole_x[:, None, None, :] & hole_y[:, None, :, None], fill[:, None, None], image)


def _matrix(xx: Tensor, xy: Tensor, x: Tensor, yx: Tensor, yy: Tensor, y: Tensor) -> Tensor:
    none, one = torch.zeros_like(xx), torch.ones_like(xx)
    return torch.stack([xx, xy, x, yx, yy, y, none, none, one], dim=1).view(-1, 3, 3)


def _reflected(place: Tensor, size: int) -> Tensor:
    """Places in -(size-1)..2(size-1) reflected at the centres of the first and the last pixel into 0..size-1."""
    return (size - 1) - ((size - 1) - place.abs()).abs()


def _within(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Bool [B, size]: which of `size` places lie in start..start+length-1."""
    place = torch.arange(size, device=start.device)
    return (place >= start[:, None]) & (place < (start + length)[:, None])
