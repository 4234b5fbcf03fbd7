"""TIFF files of deep images, read by Pillow where it reads them correctly and else by tifffile."""

import re
import sys
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from sslpipe.decoding.deep_image import SIXTEEN_BITS, DeepImage, check_size, of_samples, white_of
from sslpipe.decoding.image_formats import BrokenImageError
from sslpipe.decoding.png_chunks import as_file
from sslpipe.decoding.raw_layout import first_bytes, rawmode, sample_halves

STARTS = (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")
TIFF_SUBFILE_TYPE, TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_DESCRIPTION, TIFF_ORIENTATION = 254, 258, 262, 270, 274
TIFF_SAMPLES, TIFF_PLANAR, TIFF_FORMAT, TIFF_DEPTH, TIFF_PROFILE, TIFF_NODATA = 277, 284, 339, 32997, 34675, 42113
IMAGEJ_STACK = re.compile(r"^ImageJ=.*\bimages=([0-9]+)", re.DOTALL)
"""The description of a file in which ImageJ has written several images after one page."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, SEPARATED = 0, 1, 2, 5
"""Values of the TIFF tag PhotometricInterpretation."""
NO_PICTURE = 1 | 4
"""Value of the TIFF tag NewSubfileType of a smaller copy or a mask of another page."""
MODES = {WHITE_IS_ZERO: "L", BLACK_IS_ZERO: "L", RGB: "RGB", SEPARATED: "CMYK"}


class OnlyTifffileError(Exception):
    """Pillow has opened a TIFF, but would not read its pixels correctly."""


def is_tiff(source: Path | bytes) -> bool:
    """Return whether a file is a TIFF by its first bytes."""
    return first_bytes(source, 4).startswith(STARTS)


def has_further_tiff(image: Any, source: Path | bytes) -> bool:
    """Return whether a TIFF that Pillow has opened has further channels or pages."""
    stack = IMAGEJ_STACK.search(str(image.tag_v2.get(TIFF_DESCRIPTION, "")))
    if image.tag_v2.get(TIFF_SAMPLES, 1) > len(image.getbands()) or (stack and int(stack[1]) > 1):
        return True
    if not image.is_animated:
        return False
    with Image.open(as_file(source), formats=("TIFF",)) as second:
        second.seek(1)
        return not getattr(second, "tag_v2", {}).get(TIFF_SUBFILE_TYPE, 0) & NO_PICTURE


def deep_tiff(image: Any, source: Path | bytes) -> DeepImage | None:
    """Return the deep image of a TIFF that Pillow has opened. Raises OnlyTifffileError if tifffile must read it."""
    tags = image.tag_v2
    if tags.get(TIFF_DEPTH, 1) != 1:  # Pillow would read another slice of a volume
        raise OnlyTifffileError
    bits, kinds = tags.get(TIFF_BITS, (1,)), tags.get(TIFF_FORMAT, (1,))
    if max(bits) <= 8 and set(kinds) == {1}:
        return None
    if tags.get(TIFF_PLANAR, 1) != 1 and tags.get(TIFF_SAMPLES, 1) > 1:
        raise OnlyTifffileError
    photometric = tags.get(TIFF_PHOTOMETRIC, BLACK_IS_ZERO)
    if image.mode == "L" or image.mode[0] in "IF":
        values = np.asarray(image)
        if image.mode == "L":
            values = values.view(np.int8)
        elif image.mode == "I" and kinds[0] == 1:
            values = values.view(np.uint32)
        dtype = np.dtype(np.int16) if kinds[0] == 2 else values.dtype
        white = white_of(dtype, bits[0])
        grey = DeepImage(values=values, mode="L", white=white, inverted=photometric == WHITE_IS_ZERO)
        return _with_missing(grey, tags.get(TIFF_NODATA))
    layout, _, order = rawmode(image).partition(";16")
    if set(bits) != {16} or photometric not in (RGB, SEPARATED):
        raise OnlyTifffileError
    order = order if order in ("L", "B") else sys.byteorder[0].upper()
    samples = sample_halves(source, layout.replace("a", "A"), upper="L" if order == "L" else "B")
    extra = {"RGBA": [2], "RGBa": [1]}.get(layout, [])
    deep = of_samples(samples, MODES[photometric], white=SIXTEEN_BITS, extra=extra, further=False)
    return _with_missing(deep, tags.get(TIFF_NODATA))


def _with_missing(deep: DeepImage, nodata: object) -> DeepImage:
    """Return an image whose values of more than 8 bits are missing where they equal GDAL's tag NoData."""
    try:
        value = np.float64(str(nodata).strip(" \0"))
        missing = deep.values == value.astype(deep.values.dtype)
    except ValueError:  # no tag, or no number
        return deep
    return replace(deep, missing=missing) if deep.values.dtype != np.uint8 and missing.any() else deep


def read_tiff(source: Path | bytes, max_pixels: int) -> DeepImage:
    """Read the first page of a TIFF that Pillow does not read, or not correctly.

    Raises BrokenImageError, ValueError and other exceptions for a malformed file.
    """
    with tifffile.TiffFile(as_file(source)) as file:
        page = file.pages.first
        pixels = page.imagewidth * page.imagelength * page.imagedepth
        check_size(pixels, max_pixels)
        parts = list(zip_longest(page.dataoffsets, page.databytecounts, fillvalue=-1))
        if pixels < 1 or min(map(min, parts), default=-1) < 0 or pixels * page.samplesperpixel > 8 * max_pixels:
            raise BrokenImageError("malformed TIFF")
        if any(at + size > file.filehandle.size for at, size in parts):
            raise BrokenImageError("image file is truncated")
        mode = MODES.get(int(page.photometric))
        if mode is None or page.dtype is None or page.dtype.kind not in "buif":
            raise BrokenImageError(f"TIFF of type {page.dtype}, photometric interpretation {int(page.photometric)}")
        values = page.asarray(maxworkers=1)
        if "Z" in page.axes:
            values = values.take(0, page.axes.index("Z"))
        values = values[..., None] if "S" not in page.axes else values
        if page.axes.endswith("YX") and "S" in page.axes:
            values = np.moveaxis(values, 0, -1)
        white = white_of(page.dtype, page.bitspersample)
        deep = of_samples(
            values,
            mode,
            white=white,
            extra=[int(kind) for kind in page.extrasamples],
            inverted=int(page.photometric) == WHITE_IS_ZERO,
            orientation=int(page.tags.valueof(TIFF_ORIENTATION, default=1)),
            profile=page.tags.valueof(TIFF_PROFILE),
            further=page.imagedepth > 1 or _has_second_page(file),
        )
        return _with_missing(deep, page.tags.valueof(TIFF_NODATA))


def _has_second_page(file: tifffile.TiffFile) -> bool:
    """Return whether a file has a second page that is neither a smaller copy of the first nor a mask."""
    try:
        page = file.pages[1]
        return not (isinstance(page, tifffile.TiffPage) and page.subfiletype & NO_PICTURE)
    except Exception:  # an IndexError, or those of a malformed page
        return False
