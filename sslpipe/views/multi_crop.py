"""Multi-crop: two global views of each image and several local ones (SwAV, arXiv:2006.09882, section 3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sslpipe.io.settings import CountOrZero, parse
from sslpipe.views.policies import Views, ViewSettings

GLOBAL_VIEWS = 2
"""Global views of each image, whose assignments or teacher outputs are the targets."""
LOCAL_SHARE = 96 / 224
"""Side of a local view as a share of the image's side (SwAV; DINO; Suave, arXiv:2306.07483, section A.1)."""
LEAST_LOCAL_SIDE = 18
"""Least side of a local view, pixels, where no size is set: that of solo-learn's SwAV with multi-crop for CIFAR."""
# The colour jitter of SimCLR (arXiv:2002.05709) at full strength, and blur (SwAV's public code).
SWAV_VIEWS = ViewSettings(
    policy="simclr", brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, crop_scale=(0.14, 1.0)
)
# DINO (arXiv:2104.14294) and Daino, public code: milder colours and bicubic crops; blur as in the local views.
DINO_VIEWS = replace(SWAV_VIEWS, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, interpolation="bicubic")
DINO_SECOND: Mapping[str, Any] = {"blur": 0.1, "solarize": 0.2}
"""Changes to DINO's first global view, which is always blurred, for the second one (public code)."""


@dataclass(frozen=True, kw_only=True)
class MultiCropSettings:
    """The views of multi-crop. Defaults: SwAV's."""

    global_views: ViewSettings = SWAV_VIEWS
    second_global_views: Mapping[str, Any] = field(default_factory=dict)
    """Changes to `global_views` for the second global view of each image, as a block of its keys; {}: both are alike
    (SwAV, Suave). DINO and Daino: blur 1 in the first, blur 0.1 and solarize 0.2 in the second (public code)."""
    local_views: ViewSettings = replace(SWAV_VIEWS, crop_scale=(0.05, 0.14))
    """The small views. Without `size` a local view has 96/224 of a global one's side (all papers), but at least 18 px
    (solo-learn's for CIFAR) or the whole side, and whole patches; at 224, 96, 32 and 16 px: 96, 41, 18 and 16."""
    local_crops: CountOrZero = 6
    """Number of small local views of each image (SwAV, arXiv:2006.09882). More: better features after as many epochs,
    each of which takes more time and memory."""

    def __post_init__(self) -> None:
        self.second()

    def second(self) -> ViewSettings:
        """The settings of the second global view; raises UserError for changes that are none of views."""
        changes = self.second_global_views
        base = None if ViewSettings.PRESET in changes else self.global_views
        return parse(ViewSettings, changes, where="second_global_views", base=base)


def local_side(side: int, multiple: int | None) -> int:
    """Return the side of the local views of images of this side, in pixels, for a network that takes only multiples.

    multiple: None says that the network takes one side alone, or resizes all views to one; then it is the image's.
    """
    if multiple is None:
        return side
    least = min(side, max(LEAST_LOCAL_SIDE, round(LOCAL_SHARE * side)))
    return max(1, round(least / multiple)) * multiple


class MultiCrop:
    """Random global and local views of a batch."""

    def __init__(
        self,
        settings: MultiCropSettings,
        mean: Sequence[float],
        *,
        size: int,
        multiple: int | None,
        side: int | None = None,
    ) -> None:
        """size: side of the images, pixels. multiple: as in `local_side`. mean, side: as in `Views`."""
        local = settings.local_views
        if local.resolved().crop_scale and local.size is None:
            local = replace(local, size=local_side(side or size, multiple))
        views = [Views(chosen, mean, side=side) for chosen in (settings.global_views, settings.second(), local)]
        self._views = views[:GLOBAL_VIEWS] + views[GLOBAL_VIEWS:] * settings.local_crops

    @torch.no_grad()
    def __call__(self, image: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Return the views of uint8 images [B, C, H, W]: a list of float [B, C, h, w], first the global views."""
        return [views(image, generator) for views in self._views]
