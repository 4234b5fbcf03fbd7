"""From an image file to an opaque image of 8 bits: depth, photometric interpretation, transparency, orientation.

docs/pixels.md has the table of what is stored for each format, depth and mode.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from sslpipe.decoding.color_profiles import Conversion, srgb_conversion
from sslpipe.decoding.deep_files import read_deep
from sslpipe.decoding.deep_image import DeepImage, DeepValues, ValueRange, check_size, strips
from sslpipe.decoding.image_formats import (
    RAW,
    BrokenImageError,
    check_plain,
    check_read,
    image_formats,
    is_raw,
    quiet_libtiff,
    quiet_pillow,
)
from sslpipe.decoding.png_chunks import as_file, essential_png
from sslpipe.decoding.raw_layout import first_bytes, rawmode
from sslpipe.decoding.tiff_files import NO_PICTURE, OnlyTifffileError, read_tiff

MAX_PIXELS = 178_956_970
"""Maximum number of pixels of an image (Pillow's: 2 GB of memory while a colour image is read)."""
VANISHES = 16
"""A transparent image is put on black if its visible part differs from white by less than this on average (own
choice: far from both drawings in white, 0 to 5, and those in colours, above 50)."""
ORIENTATION, NEW_SUBFILE_TYPE, IMAGE_DESCRIPTION = 274, 254, 270
"""Tags of TIFF and EXIF."""
SHORT = 3
"""Type of a tag with integers of 16 bits."""
IMAGEJ_STACK = re.compile(r"\bimages=([0-9]+)")
"""ImageJ writes several images after one page."""
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TIFF_STARTS = (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")
INTERNAL = (TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, struct.error)
"""Exceptions whose text is about the code of Pillow or tifffile and not about the file."""
ONE_PICTURE = {"MPO", "PSD", "ICO", "ICNS", "CUR"}
"""Formats whose further frames are previews, layers or other sizes of the picture."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """An image as read from its file."""

    image: Image.Image
    """Opaque, of at most 8 bits, of any mode."""
    size: tuple[int, int]
    """Width and height in the file, as it is seen; the image is smaller if a JPEG is decoded at a fraction."""
    srgb: Conversion | None = None
    """The conversion of its colours to sRGB, to be applied after resizing, which is much faster; None if there is none.
    The image has the mode L, RGB or CMYK then."""
    deep: DeepValues | None = None
    """The values of an image of more than 8 bits."""
    clipped: bool = False
    """Whether some of them are beyond the range of values."""
    further: bool = False
    """Whether the file has further pages, frames or channels."""
    on_black: bool = False
    """Whether it is transparent and was put on black."""


def read_pixels(path: Path, *, side: int, value_range: ValueRange | None, max_pixels: int) -> Pixels:
    """Read an image file.

    side: length in pixels to which the shorter side will be resized at most; a JPEG of more than twice the length is
    decoded at a half, a quarter or an eighth of its size. value_range: values of deep images that become 0 and 255.
    Raises BrokenImageError with the reason if the file cannot be decoded.
    """
    with quiet_pillow():
        try:
            check_plain(path)
            check_read(path.name)
            try:
                return _read(path, side, value_range, max_pixels)
            except BrokenImageError:
                raise
            except Exception as error:
                return _read_again(path, error, side, value_range, max_pixels)
        except Exception as error:  # Pillow raises many types of exceptions for malformed files.
            raise BrokenImageError(reason_of(error)) from None


def reason_of(error: Exception) -> str:
    """Return the reason of an error in one line, without the file's path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow reads"
    if isinstance(error, INTERNAL):
        return "malformed file"
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(text.split())


def _read_again(path: Path, error: Exception, side: int, value_range: ValueRange | None, max_pixels: int) -> Pixels:
    """Read a file without the text, EXIF and the like that may be malformed; raise `error` if it fails again."""
    try:
        if isinstance(error, INTERNAL) and _is_tiff(path):
            return _finish_deep(read_tiff(path, max_pixels), value_range)
        content = essential_png(path, 16 * max_pixels)
        again = content and _read(content[0], side, value_range, max_pixels, content[1])
    except Exception:
        again = None
    if again is None:
        raise error
    return again


def _read(
    source: Path | bytes,
    side: int,
    value_range: ValueRange | None,
    max_pixels: int,
    profile: bytes | None = None,
) -> Pixels:
    """Read a file or its content. profile: an ICC profile that is not in the content."""
    try:
        image = Image.open(as_file(source), formats=image_formats())
    except UnidentifiedImageError:
        if not _is_tiff(source):
            raise
        return _finish_deep(read_tiff(source, max_pixels), value_range)
    with image:
        width, height = image.size
        check_size(width * height, max_pixels)
        if is_raw(image):
            raise BrokenImageError(RAW)
        is_tiff = image.format == "TIFF"
        further = _has_further(image, source)
        _scale_transparency(image)
        profile = profile or image.info.get("icc_profile")
        with quiet_libtiff() if is_tiff else nullcontext():
            image.draft(None, (2 * side, 2 * side))
            try:
                deep = read_deep(image, source)
            except OnlyTifffileError:
                return _finish_deep(read_tiff(source, max_pixels), value_range)
            if deep is None or not is_tiff:
                image.load()
        orientation = 1 if is_tiff else _orientation(image)  # Pillow transposes a TIFF when it loads it
        if deep is not None:
            return _finish_deep(deep, value_range, orientation, profile, further)
        return _finish(image, orientation, profile, size=(width, height), further=further)


def _finish_deep(
    deep: DeepImage,
    value_range: ValueRange | None,
    orientation: int = 1,
    profile: bytes | None = None,
    further: bool = False,
) -> Pixels:
    image, values, clipped = deep.eight_bits(value_range)
    return _finish(
        image,
        orientation if orientation != 1 else deep.orientation,
        profile or deep.profile,
        size=image.size,
        deep=values,
        clipped=clipped,
        further=further or deep.further,
    )


def _finish(
    image: Image.Image, orientation: int, profile: bytes | None, *, size: tuple[int, int], **facts: Any
) -> Pixels:
    """Return an image of 8 bits after transposition, on an opaque ground."""
    if orientation in TRANSPOSE:
        image = image.transpose(TRANSPOSE[orientation])
        size = size[::-1] if orientation >= 5 else size
    on_black = False
    if image.has_transparency_data:
        image, on_black = put_on_ground(image)
    if image.mode == "LAB":  # Pillow converts it to RGB alone
        image = image.convert("RGB")
    srgb = None
    if profile:
        mode = {"1": "L", "L": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
        srgb = srgb_conversion(profile, mode)
        if srgb and image.mode != mode:
            image = image.convert(mode)
    return Pixels(image=image, size=size, srgb=srgb, on_black=on_black, **facts)


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


def _scale_transparency(image: Image.Image) -> None:
    """Scale the transparent grey of a PNG of 2 or 4 bits as Pillow scales its pixels; the file is not loaded yet."""
    factor = {"L;2": 85, "L;4": 17}.get(rawmode(image))
    hidden = image.info.get("transparency")
    if image.format == "PNG" and factor and isinstance(hidden, int):
        image.info["transparency"] = hidden * factor


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image, 1 if there is none."""
    try:
        value = tag_of_exif(image.info.get("exif", b""), ORIENTATION) or image.getexif().get(ORIENTATION)
    except Exception:  # Pillow raises many types of exceptions for malformed EXIF.
        return 1
    return value if isinstance(value, int) and value in TRANSPOSE else 1


def tag_of_exif(exif: bytes, tag: int) -> int | None:
    """Return the value of a tag with a short integer, None if there is none.

    Pillow reads all tags and stops at a malformed one.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if len(exif) < start + 2:
        return None
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        found, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, at)
        if (found, kind) == (tag, SHORT):
            return int(value)
    return None


def _is_tiff(source: Path | bytes) -> bool:
    """Return whether a file is a TIFF by its first bytes."""
    return first_bytes(source, 4).startswith(TIFF_STARTS)


def _has_further(image: Any, source: Path | bytes) -> bool:
    """Return whether a file that is opened but not loaded has further pages or frames."""
    try:
        if image.format == "TIFF":
            text = str(image.tag_v2.get(IMAGE_DESCRIPTION, ""))
            stack = IMAGEJ_STACK.search(text) if text.startswith("ImageJ=") else None
            if stack and int(stack[1]) > 1:
                return True
            return bool(image.is_animated) and not _second_page_kind(source) & NO_PICTURE
        if image.format == "GIF":
            with Image.open(as_file(source), formats=("GIF",)) as other:  # looks for the second frame
                return bool(getattr(other, "is_animated", False))
        return image.format not in ONE_PICTURE and bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow raises many types of exceptions for malformed frames.
        return False


def _second_page_kind(source: Path | bytes) -> int:
    """Return the tag NewSubfileType of the second page of a TIFF."""
    with Image.open(as_file(source), formats=("TIFF",)) as other:
        other.seek(1)
        return int(getattr(other, "tag_v2", {}).get(NEW_SUBFILE_TYPE, 0))
