"""What a network sees of a whole image: its centre, after the resizing that a published network expects."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.images import central_square
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
    return central_square(resize(images, settings), settings.crop)


def resize(images: Tensor, settings: InputSettings) -> Tensor:
    """Map float images [B, C, H, W] in [0, 1] to images whose shorter side is `resize`."""
    height, width = images.shape[-2:]
    size = [settings.resize * side // min(height, width) for side in (height, width)]
    if size == [height, width]:
        return images
    if settings.interpolation == "nearest":
        images = F.interpolate(images, size)
    else:
        images = F.interpolate(images, size, mode=settings.interpolation, antialias=True)
    if settings.interpolation == "bicubic":
        images = images.clamp(0, 1)  # bicubic interpolation overshoots; the 8-bit images of the training could not
    return images


def is_view(size: int, side: int | None) -> bool:
    """Return whether images of `size` px are the views that a network of `side` takes as they are: at most as large.

    Larger ones are whole images. With side None all are whole.
    """
    return side is not None and size <= side


def seen_of(images: Tensor, side: int | None, settings: InputSettings | None) -> Tensor:
    """Map float images [B, C, H, W] in [0, 1] to what the backbone sees of them; views stay as they are.

    side: of the network, pixels. settings: the resizing and crop of a published network, instead of the central square.
    """
    if is_view(max(images.shape[-2:]), side):
        return images
    if settings is not None:
        return resize_and_crop(images, settings)
    return images if side is None else central_square(images, side)
