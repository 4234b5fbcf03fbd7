"""The resizing and cropping that a published network expects of its images."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """How images are resized and cropped before they are normalised."""

    resize: Count
    """Length of the shorter side after resizing, pixels."""
    crop: Count
    """Side of the central square that is cropped, pixels."""
    interpolation: Literal["nearest", "bilinear", "bicubic"]
    """Interpolation of the resizing; bilinear and bicubic are antialiased."""

    def __post_init__(self) -> None:
        if self.crop > self.resize:
            raise UserError(f"crop: {self.crop} px found, expected at most resize, {self.resize} px")


def resize_and_crop(images: Tensor, settings: InputSettings) -> Tensor:
    """Map float images [B, C, H, W] in [0, 1] to [B, C, crop, crop], as torchvision's ImageClassification does."""
    height, width = images.shape[-2:]
    size = [settings.resize * side // min(height, width) for side in (height, width)]
    if settings.interpolation == "nearest":
        images = F.interpolate(images, size)
    else:
        images = F.interpolate(images, size, mode=settings.interpolation, antialias=True)
    if settings.interpolation == "bicubic":
        images = images.clamp(0, 1)  # bicubic interpolation overshoots; the 8-bit images of the training could not
    top, left = (round((side - settings.crop) / 2) for side in size)
    return images[..., top : top + settings.crop, left : left + settings.crop]
