"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): each image and its target are mixed with another image's."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from scipy.special import betaincinv
from torch import Tensor

from sslpipe.data import world
from sslpipe.io.settings import Fraction, NonNegative
from sslpipe.views.draw import Draw
from sslpipe.views.geometry import within

_QUANTILES = 4096
"""Number of quantiles in the table of a Beta distribution (own choice)."""


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """Settings of Mixup and CutMix; if both are on, one of them is chosen at random for each image or batch."""

    mixup: NonNegative = 1.0
    """α of the distribution Beta(α, α) of λ for Mixup, where λ is the image's weight in every pixel; 0: no Mixup.
    Larger: more even mixtures of two images (1: each λ is equally likely), so stronger regularisation."""
    cutmix: NonNegative = 1.0
    """α for CutMix, where λ is the share of the area that is kept (CutMix, section 3.1: 1); 0: no CutMix. Larger: boxes
    nearer to half of the area (1: each share is equally likely), so stronger regularisation."""
    switch: Fraction = 0.5
    """Probability of CutMix if both are on (public code of Suave, arXiv:2306.07483). Larger: CutMix more often, Mixup
    more rarely."""
    dominant: bool = False
    """Use max(λ, 1 - λ), so that the image has a larger weight than its partner (MixMatch, arXiv:1905.02249, eq. 9)."""
    drawn_per: Literal["image", "batch"] = "image"
    """image: each image draws its λ, its box and Mixup or CutMix, and the partners are a random permutation. batch: the
    whole batch draws once, and an image's partner is the one at its place from the end (public code of Suave)."""


@dataclass(frozen=True)
class Mix:
    """Partners and weights for the mixing of a batch of B images."""

    partner: Tensor
    """int64 [B], a permutation of the batch; an image may be its own partner."""
    weight: Tensor
    """float32 [B] in [0, 1], weight of the image's own target; for CutMix the share of the area outside the box."""
    mask: Tensor
    """float32 in [0, 1], weight of the image in each pixel: [B, 1, H, W], or [B, 1, 1, 1] if CutMix is off."""

    def images(self, image: Tensor, other: Tensor | None = None) -> Tensor:
        """Mix float images [B, C, H, W] with their partners in `other` (same shape), by default in `image`.

        Both are this process's rows of the batch; the partners may be other processes' rows.
        """
        source = world.gather(image if other is None else other)
        return torch.lerp(source[world.own(self.partner)], image, world.own(self.mask).to(image.dtype))

    def targets(self, target: Tensor, other: Tensor | None = None) -> Tensor:
        """Mix target probabilities, float [B, K], with those of the partners; other: as for `images`."""
        source = target if other is None else other
        return torch.lerp(source[self.partner], target, self.weight[:, None].to(target.dtype))


def draw_mix(settings: MixSettings, count: int, size: tuple[int, int], generator: torch.Generator) -> Mix:
    """Draw partners and weights for `count` images of `size` (height, width), on the generator's device.

    If neither Mixup nor CutMix is on, images and targets do not change.
    """
    device = generator.device
    if settings.drawn_per == "batch":
        one = _draw_mix(settings, 1, size, generator)
        partner = torch.arange(count - 1, -1, -1, device=device)
        return Mix(partner, one.weight.expand(count), one.mask.expand(count, -1, -1, -1))
    return _draw_mix(settings, count, size, generator)


def _draw_mix(settings: MixSettings, count: int, size: tuple[int, int], generator: torch.Generator) -> Mix:
    """Draw everything for each of `count` images."""
    draw, device = Draw(count, generator), generator.device
    partner = torch.randperm(count, generator=generator, device=device)
    is_cut = draw.bernoulli(settings.switch if settings.mixup and settings.cutmix else float(settings.cutmix > 0))
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
    # The box has √(1 - λ) of the image's sides, rounded down to pixels, around a uniformly random pixel (CutMix, eq.
    # 2).
    side = (1 - weight).sqrt()
    rows = _span(draw, (side * size[0]).long(), size[0])
    columns = _span(draw, (side * size[1]).long(), size[1])
    kept = 1 - rows.sum(1) * columns.sum(1) / (size[0] * size[1])
    outside = 1 - rows[:, None, :, None] * columns[:, None, None, :]
    mask = torch.where(is_cut[:, None, None, None], outside, weight[:, None, None, None])
    return Mix(partner, torch.where(is_cut, kept, weight), mask)


def _span(draw: Draw, length: Tensor, size: int) -> Tensor:
    """Return float32 [B, size]: 1 at `length` (int64 [B]) positions around a random one, cut at the border, else 0."""
    return within(draw.whole(0, size - 1) - length // 2, length, size).float()


def _beta(alpha: float, point: Tensor) -> Tensor:
    """Return samples of Beta(α, α): its quantiles at points that are uniform in [0, 1).

    torch cannot sample a Beta distribution with a given generator. Values are interpolated linearly between
    `_QUANTILES` quantiles; the outer 1/8192 of the mass on each side is mapped to the outermost quantiles.
    """
    table = _quantiles(alpha, point.device)
    place = (point * _QUANTILES - 0.5).clamp(0, _QUANTILES - 1)
    below = place.long().clamp(max=_QUANTILES - 2)
    return torch.lerp(table[below], table[below + 1], place - below)


@cache
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    """Return float32 [_QUANTILES]: the quantiles at the centres of as many equal parts of [0, 1]."""
    middle = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, middle.numpy())).float().to(device)
