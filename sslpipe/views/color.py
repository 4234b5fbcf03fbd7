"""Operations on pixel values of float images [B, C, H, W] in [0, 1], C = 1 or 3, with one parameter per image [B].

Each operation gives for every image the result of torchvision's function for the same purpose.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601); with torchvision's 0.2989, white would become 0.9999."""


def brightness(image: Tensor, factor: Tensor) -> Tensor:
    """Change the brightness by a factor [B]: 0 gives black, 1 the image itself."""
    return (image * _per_image(factor)).clamp_(0, 1)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Change the contrast by a factor [B]: 0 gives the image's mean grey, 1 the image itself."""
    return _blend(_grey(image).mean((1, 2, 3), keepdim=True), image, factor)


def saturation(image: Tensor, factor: Tensor) -> Tensor:
    """Change the saturation by a factor [B]: 0 gives grey, 1 the image itself; grey images do not change."""
    return _blend(_grey(image), image, factor) if image.shape[1] == 3 else image


def hue(image: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue of HSV by a fraction [B] of the colour circle, -0.5 to 0.5; grey images do not change."""
    if image.shape[1] == 1:
        return image
    red, green, blue = image.unbind(1)
    high, low = image.amax(1), image.amin(1)
    chroma = high - low
    divisor = chroma.clamp(min=torch.finfo(image.dtype).tiny)
    sixths = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    # On a colour circle of length 6, each channel is `high` minus the chroma near its complementary hue: red near 3,
    # green near 5, blue near 7, which is 1.
    complement = torch.arange(3, 8, 2, device=image.device)[:, None, None]
    distance = (sixths + 6 * shift[:, None, None])[:, None] - complement
    distance = distance.sub_((distance / 6).round_().mul_(6)).abs_()
    return high[:, None] - (2 - distance).clamp_(0, 1).mul_(chroma[:, None])


def grayscale(image: Tensor) -> Tensor:
    """Replace every channel by the pixel's grey."""
    return _grey(image).expand_as(image)


def gaussian_blur(image: Tensor, sigma: Tensor, *, radius: int) -> Tensor:
    """Convolve with a Gaussian truncated at `radius` pixels; the image is reflected at its borders.

    sigma: [B], standard deviation in pixels, above 0. radius: less than the image's side.
    """
    offset = torch.arange(-radius, radius + 1, device=image.device)
    weight = torch.softmax(-((offset / sigma[:, None]) ** 2) / 2, dim=1)
    return _blur_by_sums(image, weight) if radius == 1 else _blur_by_products(image, weight, radius)


def _blur_by_sums(image: Tensor, weight: Tensor) -> Tensor:
    """Blur by sums of three weighted copies along each axis; weight: [B, 3]. At 16 × 16 px as fast as by products."""
    height, width = image.shape[-2:]
    padded, weight = pad(image, (1, 1, 1, 1), mode="reflect"), weight[:, :, None, None, None]
    padded = torch.stack([weight[:, tap] * padded[..., tap : tap + width] for tap in range(3)]).sum(0)
    return torch.stack([weight[:, tap] * padded[..., tap : tap + height, :] for tap in range(3)]).sum(0)


def _blur_by_products(image: Tensor, weight: Tensor, radius: int) -> Tensor:
    """Blur by products with matrices [B, side, side]; at 96 × 96 px eight times as fast as sums of shifted copies."""
    count, channels, height, width = image.shape
    with torch.autocast(image.device.type, enabled=False):
        rows, columns = (
            (weight @ _taps(side, radius, image.device).flatten(1)).view(count, side, side) for side in (height, width)
        )
        along = image.reshape(count, channels * height, width) @ columns.transpose(1, 2)
        across = rows @ along.view(image.shape).transpose(1, 2).reshape(count, height, channels * width)
    return across.view(count, height, channels, width).transpose(1, 2)


@cache
def _taps(side: int, radius: int, device: torch.device) -> Tensor:
    """Return [2 · radius + 1, side, side]: 1 where a tap for an output pixel reads an input pixel, else 0."""
    place = torch.arange(side)
    read = place + torch.arange(-radius, radius + 1)[:, None]
    read = (side - 1) - ((side - 1) - read.abs()).abs()
    return (read[:, :, None] == place).float().to(device)


def solarize(image: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above a threshold [B]; a threshold above 1 inverts nothing."""
    return torch.where(image >= _per_image(threshold), 1 - image, image)


def posterize(image: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper bits of the image rounded to 256 levels; bits: [B], integers 0 to 8."""
    shift = _per_image(8 - bits).to(torch.int32)
    return ((_levels(image) >> shift) << shift) / 255


def equalize(image: Tensor) -> Tensor:
    """Equalise the histogram of each channel, rounded to 256 levels, with Pillow's integer arithmetic.

    A channel with fewer than 255 pixels below its maximum does not change; nearly all images of 16 × 16 px are such.
    """
    levels = _levels(image).flatten(2).long()
    histogram = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=image.device)
    histogram.scatter_add_(2, levels, torch.ones_like(levels))
    below_greatest = (levels < levels.amax(2, keepdim=True)).sum(2, keepdim=True)
    step = below_greatest // 255
    below = histogram.cumsum(2) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step[..., None] > 0, table.gather(2, levels).view_as(image) / 255, image)


def autocontrast(image: Tensor) -> Tensor:
    """Stretch each channel to [0, 1]; a channel of one value does not change."""
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (image - low) / span.clamp(min=torch.finfo(image.dtype).tiny), image)


def sharpness(image: Tensor, factor: Tensor) -> Tensor:
    """Change the sharpness by a factor [B]: 0 gives the smoothed image, 1 the image itself; border pixels do not
    change.

    The smoothed image is a mean over 3 × 3 pixels, with weight 5 at the centre and 1 elsewhere.
    """
    if min(image.shape[-2:]) < 3:
        return image
    inner = image[..., 1:-1, 1:-1]
    rows = image[..., :-2, :] + image[..., 1:-1, :] + image[..., 2:, :]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = (around + 4 * inner) / 13
    result = image.clone()
    result[..., 1:-1, 1:-1] = _blend(smooth, inner, factor)
    return result


def ring_blur(image: Tensor) -> Tensor:
    """Replace each pixel by the mean of the 16 pixels at the border of the 5 × 5 around it (Pillow's filter BLUR).

    The two outer rows and columns do not change.
    """
    if min(image.shape[-2:]) < 5:
        return image
    inner = image[..., 1:-1, 1:-1]
    result = image.clone()
    result[..., 2:-2, 2:-2] = (_box_sum(image, 5) - _box_sum(inner, 3)) / 16
    return result


def _box_sum(image: Tensor, side: int) -> Tensor:
    """Return the sums over squares of `side` pixels, [B, C, H - side + 1, W - side + 1]."""
    height, width = image.shape[-2] - side + 1, image.shape[-1] - side + 1
    rows = torch.stack([image[..., start : start + height, :] for start in range(side)]).sum(0)
    return torch.stack([rows[..., start : start + width] for start in range(side)]).sum(0)


def _per_image(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def _blend(start: Tensor, image: Tensor, factor: Tensor) -> Tensor:
    """Interpolate linearly from `start` (factor 0) to `image` (factor 1) and beyond, clamped to [0, 1]."""
    weight = _per_image(factor)
    return (image * weight).add_(start * (1 - weight)).clamp_(0, 1)


def _grey(image: Tensor) -> Tensor:
    """Return the grey values, [B, 1, H, W]."""
    if image.shape[1] == 1:
        return image
    red, green, blue = image.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def _levels(image: Tensor) -> Tensor:
    """Return the values rounded to 256 levels: int32, 0 to 255."""
    return (image * 255).round().to(torch.int32)
