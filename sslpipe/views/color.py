"""What changes pixel values: float images [B, C, H, W] in [0, 1], C = 1 or 3, with parameters [B] per image.

Each does to every image what torchvision's function of that purpose does to one.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601). torchvision's 0.2989 makes white 0.9999."""


def brightness(image: Tensor, factor: Tensor) -> Tensor:
    """Towards black by a factor [B] below 1, away from it above 1."""
    return (image * _per_image(factor)).clamp_(0, 1)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Towards the image's mean grey by a factor [B] below 1, away from it above 1."""
    return _blend(_grey(image).mean((1, 2, 3), keepdim=True), image, factor)


def saturation(image: Tensor, factor: Tensor) -> Tensor:
    """Towards each pixel's grey by a factor [B] below 1, away from it above 1; a grey image stays as it is."""
    return _blend(_grey(image), image, factor) if image.shape[1] == 3 else image


def hue(image: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of HSV by a part [B] of the circle, -0.5 to 0.5; a grey image stays as it is."""
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
    # Each channel falls from `high` by the whole chroma near the hue opposite to it, on a circle of 6: red near 3,
    # green near 5, blue near 7, which is 1.
    opposite = torch.arange(3, 8, 2, device=image.device)[:, None, None]
    away = (sixths + 6 * turn[:, None, None])[:, None] - opposite
    away = away.sub_((away / 6).round_().mul_(6)).abs_()
    return high[:, None] - (2 - away).clamp_(0, 1).mul_(chroma[:, None])


def grayscale(image: Tensor) -> Tensor:
    """Every channel the pixel's grey."""
    return _grey(image).expand_as(image)


def gaussian_blur(image: Tensor, sigma: Tensor, *, radius: int) -> Tensor:
    """Convolve with a Gaussian cut off at `radius` pixels; sigma: [B], pixels, above 0. Borders are reflected.

    radius: less than the image's side.
    """
    offset = torch.arange(-radius, radius + 1, device=image.device)
    weight = torch.softmax(-((offset / sigma[:, None]) ** 2) / 2, dim=1)
    return _blur_by_sums(image, weight) if radius == 1 else _blur_by_products(image, weight, radius)


def _blur_by_sums(image: Tensor, weight: Tensor) -> Tensor:
    """Three weighted copies along each axis; weight: [B, 3]. For images of 16 × 16 no slower than matrices."""
    height, width = image.shape[-2:]
    padded, weight = pad(image, (1, 1, 1, 1), mode="reflect"), weight[:, :, None, None, None]
    padded = torch.stack([weight[:, tap] * padded[..., tap : tap + width] for tap in range(3)]).sum(0)
    return torch.stack([weight[:, tap] * padded[..., tap : tap + height, :] for tap in range(3)]).sum(0)


def _blur_by_products(image: Tensor, weight: Tensor, radius: int) -> Tensor:
    """As matrices over rows and columns, [B, side, side]; at 96 × 96 eight times as fast as sums of shifted copies."""
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
    """[2 · radius + 1, side, side]: which place each tap reads for each place, 1 or 0; reflected at the borders."""
    place = torch.arange(side)
    read = place + torch.arange(-radius, radius + 1)[:, None]
    read = (side - 1) - ((side - 1) - read.abs()).abs()
    return (read[:, :, None] == place).float().to(device)


def solarize(image: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at or above a threshold [B]; a threshold above 1 inverts nothing."""
    return torch.where(image >= _per_image(threshold), 1 - image, image)


def posterize(image: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper bits (whole numbers [B], 0 to 8) of the image rounded to 256 levels."""
    shift = _per_image(8 - bits).to(torch.int32)
    return ((_levels(image) >> shift) << shift) / 255


def equalize(image: Tensor) -> Tensor:
    """Spread the values of each channel, rounded to 256 levels, evenly; Pillow's integer rule.

    A channel with fewer than 255 pixels below its greatest value stays as it is, so nearly every 16 x 16 image does.
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
    """Stretch each channel to [0, 1]; a channel of one value stays as it is."""
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (image - low) / span.clamp(min=torch.finfo(image.dtype).tiny), image)


def sharpness(image: Tensor, factor: Tensor) -> Tensor:
    """Towards the image smoothed by a factor [B] below 1, away from it above 1; the outermost pixels stay.

    Smoothed: each pixel's 3 x 3 surroundings with weight 1 each and 5 for itself.
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


def _per_image(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def _blend(start: Tensor, image: Tensor, factor: Tensor) -> Tensor:
    """From `start` (factor 0) to `image` (factor 1) and beyond, kept in [0, 1]."""
    weight = _per_image(factor)
    return (image * weight).add_(start * (1 - weight)).clamp_(0, 1)


def _grey(image: Tensor) -> Tensor:
    """[B, 1, H, W]."""
    if image.shape[1] == 1:
        return image
    red, green, blue = image.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def _levels(image: Tensor) -> Tensor:
    """int32, 0 to 255."""
    return (image * 255).round().to(torch.int32)
