"""Transparent images on an opaque ground."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageChops

from sslpipe.decoding.deep_image import strips
from sslpipe.decoding.raw_layout import rawmode

VANISHES = 16
"""A transparent image is put on black if its visible part differs from white by less than this on average (own
choice: far from both drawings in white, 0 to 5, and those in colours, above 50)."""


def put_on_ground(image: Image.Image) -> tuple[Image.Image, bool]:
    """Composite a transparent image over white, or over black if it would vanish on white: L or RGB, whether on black.

    It vanishes if the difference of its pixels from white (that of the channel with the largest), averaged with their
    opacity as the weight, is below VANISHES. It is done in strips, to avoid several copies of a large image.
    """
    opacity = difference = 0
    for _, strip in _rgba_strips(image):
        red, green, blue, alpha = strip.split()
        darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
        weight = np.asarray(alpha).astype(np.uint32)
        opacity += int(weight.sum())
        difference += int((weight * ~np.asarray(darkest)).sum())
    transparent = opacity < 255 * image.width * image.height
    black = transparent and difference < VANISHES * opacity
    flat = Image.new("RGB", image.size)
    for top, strip in _rgba_strips(image):
        ground = Image.new("RGBA", strip.size, "black" if black else "white")
        flat.paste(Image.alpha_composite(ground, strip).convert("RGB"), (0, top))
    return flat.convert("L") if image.mode in ("1", "L", "LA", "La") else flat, black


def _rgba_strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Return the first row of each strip of an image, and the strip in RGBA."""
    for top, bottom in strips(image.height, image.width):
        strip = image.crop((0, top, image.width, bottom))
        yield top, (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")


def scale_transparency(image: Image.Image) -> None:
    """Scale the transparent grey of a PNG of 2 or 4 bits as Pillow scales its pixels; the file is not loaded yet."""
    factor = {"L;2": 85, "L;4": 17}.get(rawmode(image))
    hidden = image.info.get("transparency")
    if image.format == "PNG" and factor and isinstance(hidden, int):
        image.info["transparency"] = hidden * factor
