"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): each image mixed with another, and so its target."""

from dataclasses import dataclass
from functools import cache

import torch
from scipy.special import betaincinv
from torch import Tensor

from sslpipe.io.settings import Fraction, NonNegative
from sslpipe.views.draw import Draw

_QUANTILES = 4096


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """Which images are mixed, and how much. With both kinds on, each image draws its own."""

    mixup: NonNegative = 1.0
    """α of the Beta(α, α) that λ is drawn from for Mixup (the image's own share of every pixel); 0: no Mixup."""
    cutmix: NonNegative = 1.0
    """α for CutMix, where λ is the share of the area kept (CutMix, section 3.1: 1); 0: no CutMix."""
    switch: Fraction = 0.5
    """Probability of CutMix where both are on (recipes.md, 3: Suave's code)."""
    dominant: bool = False
    """Take max(λ, 1 - λ), so that the image outweighs its partner (MixMatch, eq. 9)."""


@dataclass(frozen=True)
class Mix:
    """How a batch of B images is mixed."""

    partner: Tensor
    """int64 [B], a permutation of the batch; an image may be its own partner."""
    weight: Tensor
    """float32 [B] in [0, 1], the image's own share, of CutMix that of the area left outside the box."""
    mask: Tensor
    """float32 in [0, 1], the image's own share of each pixel: [B, 1, H, W], [B, 1, 1, 1] where CutMix is off."""

    def images(self, image: Tensor, other: Tensor | None = None) -> Tensor:
        """Float [B, C, H, W], mixed with its partners, of `other` (same shape) where given, else of itself."""
        source = image if other is None else other
        return torch.lerp(source[self.partner], image, self.mask.to(image.dtype))

    def targets(self, target: Tensor, other: Tensor | None = None) -> Tensor:
        """Float [B, K], probabilities, mixed with the partners' by `weight`; `other`: as for `images`."""
        source = target if other is None else other
        return torch.lerp(source[self.partner], target, self.weight[:, None].to(target.dtype))


def draw_mix(settings: MixSettings, count: int, size: tuple[int, int], generator: torch.Generator) -> Mix:
    """Draw the mixing of `count` images of `size` (height, width), on the generator's device.

    With neither kind on, every image stays as it is.
    """
    draw, device = Draw(count, generator), generator.device
    partner = torch.randperm(count, generator=generator, device=device)
    is_cut = draw.chance(settings.switch if settings.mixup and settings.cutmix else float(settings.cutmix > 0))
    point = draw.uniform(0.0, 1.0)
    weight = torch.ones(count, device=device)
    if settings.mixup:
        weight = _beta(settings.mixup, point)
    if settings.cutmix:
        weight = torch.where(is_cut, _beta(settings.cutmix, point), weight)
    if settings.dominant:
        weight = torch.maximum(weight, 1 - weight)
    if not settings.cutmix:
        return Mix(partner, weight, weight[:, None, None, None])
    # Sides √(1 - λ) of the image's, rounded down to whole pixels, about an evenly drawn pixel (CutMix, eq. 2).
    side = (1 - weight).sqrt()
    rows = _span(draw, (side * size[0]).long(), size[0])
    columns = _span(draw, (side * size[1]).long(), size[1])
    kept = 1 - rows.sum(1) * columns.sum(1) / (size[0] * size[1])
    outside = 1 - rows[:, None, :, None] * columns[:, None, None, :]
    mask = torch.where(is_cut[:, None, None, None], outside, weight[:, None, None, None])
    return Mix(partner, torch.where(is_cut, kept, weight), mask)


def _span(draw: Draw, length: Tensor, size: int) -> Tensor:
    """float32 [B, size]: 1 on `length` (int64 [B]) places about a random one, less what the border cuts off, else 0."""
    start = draw.whole(0, size - 1) - length // 2
    place = torch.arange(size, device=length.device)
    return ((place >= start[:, None]) & (place < (start + length)[:, None])).float()


def _beta(alpha: float, point: Tensor) -> Tensor:
    """Beta(α, α) by its quantiles at points uniform in [0, 1), for torch draws no Beta from a given generator.

    Linear between `_QUANTILES` quantiles; the outermost 1/8192 of the mass at either end is drawn in to them.
    """
    table = _quantiles(alpha, point.device)
    place = (point * _QUANTILES - 0.5).clamp(0, _QUANTILES - 1)
    below = place.long().clamp(max=_QUANTILES - 2)
    return torch.lerp(table[below], table[below + 1], place - below)


@cache
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    """float32 [_QUANTILES]: the quantiles at the middles of as many equal parts of [0, 1]."""
    middle = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, middle.numpy())).float().to(device)
