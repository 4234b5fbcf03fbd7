"""Multi-crop (SwAV, section 3.3): two large crops of an image and several small ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sslpipe.io.settings import CountOrZero
from sslpipe.views.policies import Views, ViewSettings

GLOBAL_CROPS = 2
"""Those that are assigned to prototypes."""
# SwAV's colours (public code; recipes.md, 2.1): SimCLR's at full strength, and blur.
SWAV_CROP = ViewSettings(
    policy="simclr", brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, crop_scale=(0.14, 1.0)
)


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """Defaults: SwAV's for ImageNet, two crops of 224 pixels and six of 96."""

    large: ViewSettings = SWAV_CROP
    small: ViewSettings = replace(SWAV_CROP, crop_scale=(0.05, 0.14))
    """`size` makes them small images (96 of 224 pixels)."""
    small_crops: CountOrZero = 6


class MultiCrop:
    """Draws the crops of a batch."""

    def __init__(self, settings: CropSettings, policy: Callable[[ViewSettings], Views]) -> None:
        """policy: from settings to views, such as SelfSupervised.policy."""
        self._draw = [policy(settings.large)] * GLOBAL_CROPS + [policy(settings.small)] * settings.small_crops

    @torch.no_grad()
    def __call__(self, image: Tensor, generator: torch.Generator) -> list[Tensor]:
        """uint8 [B, C, H, W] to views [B, C, h, w], the large ones first."""
        return [view(image, generator) for view in self._draw]
