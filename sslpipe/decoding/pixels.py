"""From an image file to an opaque image of 8 bits: depth, photometric interpretation, transparency, orientation.

docs/pixels.md has the table of what is stored for each format, depth and mode.
"""

import re
import struct
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from sslpipe.decoding.color_profiles import Conversion, srgb_conversion
from sslpipe.decoding.deep_files import read_deep
from sslpipe.decoding.deep_image import DeepImage, ValueRange, check_size
from sslpipe.decoding.heic_files import FORMAT as HEIF
from sslpipe.decoding.heic_files import heic_errors, open_heic
from sslpipe.decoding.image_formats import (
    FIRST_BYTES,
    RAW,
    BrokenImageError,
    check_plain,
    check_read,
    image_formats,
    is_heic,
    is_raw,
    other_content,
    quiet_libtiff,
    quiet_pillow,
)
from sslpipe.decoding.image_info import ImageInfo
from sslpipe.decoding.orientation import TRANSPOSE, orientation_of
from sslpipe.decoding.png_chunks import as_file, essential_png
from sslpipe.decoding.raw_layout import first_bytes
from sslpipe.decoding.tiff_files import OnlyTifffileError, has_further_tiff, is_tiff, read_tiff
from sslpipe.decoding.transparency import put_on_ground, scale_transparency

MAX_PIXELS = 178_956_970
"""Maximum number of pixels of an image (Pillow's: 2 GB of memory while a colour image is read)."""
INTERNAL = (TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, struct.error)
"""Exceptions whose text is about the code of Pillow or tifffile and not about the file."""
ONE_PICTURE = {"MPO", "PSD", "ICO", "ICNS", "CUR"}
"""Formats whose further frames are previews, layers or other sizes of the picture."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How images are decoded."""

    size: int
    """Height and width of the result, pixels."""
    channels: int
    """1 (grey) or 3 (colour)."""
    value_range: ValueRange | None = None
    """Values of more than 8 bits that become 0 and 255; None: 0 to 65535 for integers of 16 bits, 0 to 1 for floats."""
    max_pixels: int = MAX_PIXELS
    """Maximum number of pixels of a file."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """An image as read from its file."""

    image: Image.Image
    """Opaque, of at most 8 bits, of any mode."""
    image_info: ImageInfo
    """What is known of it; the image is smaller than the file if a JPEG is decoded at a fraction."""
    srgb: Conversion | None = None
    """The conversion of its colours to sRGB, to be applied after resizing, which is much faster; None if there is none.
    The image has the mode L, RGB or CMYK then."""


def read_pixels(path: Path, form: Form) -> Pixels:
    """Read an image file, not resized yet; a JPEG of more than twice the size is decoded at a half or less of its own.

    Raises BrokenImageError with the reason if the file cannot be decoded.
    """
    with quiet_pillow():
        try:
            check_plain(path)
            check_read(path.name)
            try:
                return _read(path, form)
            except BrokenImageError:
                raise
            except Exception as error:
                return _read_again(path, error, form)
        except Exception as error:  # Pillow raises many types of exceptions for malformed files.
            raise BrokenImageError(reason_of(error)) from None


def reason_of(error: Exception) -> str:
    """Return the reason of an error in one line, without the file's path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow reads"
    if isinstance(error, INTERNAL):
        return "malformed file"
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    text = re.sub(r" \([0-9]+ bytes not processed\)", "", text)  # so that equal reasons are counted together
    return " ".join(text.split())


def _read_again(path: Path, error: Exception, form: Form) -> Pixels:
    """Read a file without the text, EXIF and the like that may be malformed; raise `error` if it fails again."""
    try:
        if isinstance(error, INTERNAL) and is_tiff(path):
            return _finish_deep(read_tiff(path, form.max_pixels), form.value_range)
        content = essential_png(path, 16 * form.max_pixels)
        again = content and _read(content[0], form, content[1])
    except Exception:
        again = None
    if again is None:
        raise error
    return again


def _read(source: Path | bytes, form: Form, profile: bytes | None = None) -> Pixels:
    """Read a file or its content. profile: an ICC profile that is not in the content."""
    image: Image.Image
    try:
        image = Image.open(as_file(source), formats=image_formats())
    except UnidentifiedImageError:
        head = first_bytes(source, FIRST_BYTES)
        if is_heic(head):
            image = open_heic(source)
        elif what := other_content(head):
            raise BrokenImageError(f"{what} found, expected an image") from None
        elif is_tiff(source):
            return _finish_deep(read_tiff(source, form.max_pixels), form.value_range)
        else:
            raise
    with image:
        width, height = image.size
        check_size(width * height, form.max_pixels)
        if is_raw(image):
            raise BrokenImageError(RAW)
        as_tiff, as_heic = image.format == "TIFF", image.format == HEIF
        further = _has_further(image, source)
        scale_transparency(image)
        profile = profile or image.info.get("icc_profile")
        with quiet_libtiff() if as_tiff else heic_errors() if as_heic else nullcontext():
            image.draft(None, (2 * form.size, 2 * form.size))
            try:
                deep = read_deep(image, source)
            except OnlyTifffileError:
                return _finish_deep(read_tiff(source, form.max_pixels), form.value_range)
            if deep is None or not as_tiff:
                image.load()
        # Pillow transposes a TIFF when it loads it, and pi-heif HEIC.
        orientation = 1 if as_tiff or as_heic else orientation_of(image)
        if deep is not None:
            return _finish_deep(deep, form.value_range, orientation, profile, further)
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
    image: Image.Image, orientation: int, profile: bytes | None, *, size: tuple[int, int], **image_info: Any
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
    return Pixels(image=image, image_info=ImageInfo(size=size, on_black=on_black, **image_info), srgb=srgb)


def _has_further(image: Any, source: Path | bytes) -> bool:
    """Return whether a file that is opened but not loaded has further pages, frames or channels."""
    try:
        if image.format == "TIFF":
            return has_further_tiff(image, source)
        if image.format == "GIF":
            with Image.open(as_file(source), formats=("GIF",)) as other:  # looks for the second frame
                return bool(getattr(other, "is_animated", False))
        return image.format not in ONE_PICTURE and bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow raises many types of exceptions for malformed frames.
        return False
