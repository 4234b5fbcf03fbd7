"""Conversion of colours from the ICC profile of a file to sRGB."""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

SAME = 2
"""A profile whose colours differ by at most this from sRGB is sRGB itself (own choice: rounding and variants of it)."""
SPACES = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}
"""Mode of an image → the colour space of profiles that fit it."""

Conversion = Callable[[Image.Image], Image.Image]


@lru_cache(maxsize=16)
def srgb_conversion(profile: bytes, mode: str) -> Conversion | None:
    """Return the conversion of images of the mode L, RGB or CMYK to L or RGB in sRGB.

    None if there is nothing to convert: the profile is sRGB itself, is broken, or belongs to another mode.
    """
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        if opened.profile.xcolor_space.ljust(4) != SPACES.get(mode):
            return None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if transform is None:
            return None

        def convert(image: Image.Image) -> Image.Image:
            result = transform.apply(image)
            return result.getchannel("G") if mode == "L" else result

        return None if mode != "CMYK" and _is_identity(convert, mode) else convert
    except Exception:  # ImageCms raises several types of exceptions for malformed profiles.
        return None


def _is_identity(convert: Conversion, mode: str) -> bool:
    """Return whether a conversion leaves a grid of colours as it is, up to SAME levels."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    image = Image.fromarray(np.arange(256, dtype=np.uint8)[None] if mode == "L" else grid)
    return bool(np.abs(np.asarray(convert(image)).astype(int) - np.asarray(image)).max() <= SAME)
