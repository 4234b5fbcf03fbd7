"""Multi-crop: two global views of each image and several local ones (SwAV, arXiv:2006.09882, section 3.3)."""

import torch
from torch import Tensor

from sslpipe.views.policies import Views, ViewSettings

GLOBAL_VIEWS = 2
"""Global views of each image, whose assignments or teacher outputs are the targets."""
# The colour jitter of SimCLR (arXiv:2002.05709) at full strength, and blur (SwAV's public code).
SWAV_VIEWS = ViewSettings(
    policy="simclr", brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, crop_scale=(0.14, 1.0)
)


class MultiCrop:
    """Random global and local views of a batch."""

    def __init__(self, global_views: Views, local_views: Views, local_crops: int) -> None:
        """Combine the two kinds of views; local_crops: number of local views of each image."""
        self._views = [global_views] * GLOBAL_VIEWS + [local_views] * local_crops

    @torch.no_grad()
    def __call__(self, image: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Return the views of uint8 images [B, C, H, W]: a list of float [B, C, h, w], first the global views."""
        return [views(image, generator) for views in self._views]
