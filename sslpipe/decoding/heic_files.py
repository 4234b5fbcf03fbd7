"""HEIC photographs (HEIF with HEVC, as iPhones write them), read by the optional pi-heif.

It is imported when a file needs it. It applies the rotation and mirroring that the container declares; the orientation
in EXIF does not count in HEIF (ISO/IEC 23008-12).
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from sslpipe.decoding.deep_image import DeepImage
from sslpipe.decoding.image_formats import HEIC_SUFFIXES, BrokenImageError
from sslpipe.decoding.png_chunks import as_file
from sslpipe.io.text import counted

FORMAT = "HEIF"
"""The format of images that are opened here, in the words of pi-heif."""
INSTALL = "pip install 'sslpipe[heic]'"
TRUNCATED = r"end of file|insufficient input data|file size too small|cannot read full|iloc box references"
"""What libheif says of a file that ends too early."""

NO_PRIMARY = "HEIC not readable: its primary image is damaged or truncated"
UNIDENTIFIED = "not identified by this driver"
"""What Pillow says of a file without an image that pi-heif can open."""


@cache
def reads_heic() -> bool:
    """Return whether pi-heif is installed, without importing it."""
    return find_spec("pi_heif") is not None


def is_left_out(name: str) -> bool:
    """Return whether a file is HEIC by its name and pi-heif is missing."""
    return os.path.splitext(name)[1].lower() in HEIC_SUFFIXES and not reads_heic()


def heic_note(images: Sequence[str]) -> list[str]:
    """Return a note on the HEIC files that are left out without pi-heif, if there are any."""
    count = sum(map(is_left_out, images))
    return [f"HEIC left out: {count:,} of {counted(len(images), 'image')}; {INSTALL} reads them"] if count else []


def open_heic(source: Path | bytes) -> Image.Image:
    """Return the primary image of a file, not decoded yet.

    Raises BrokenImageError without pi-heif, and for a malformed file.
    """
    try:
        from pi_heif import HeifImageFile, options

        # The files are decoded by a process for each core; only the image itself is wanted.
        options.DECODE_THREADS = 1
        options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
        with heic_errors():
            image: Image.Image = HeifImageFile(as_file(source))
    except ImportError:
        raise BrokenImageError(f"HEIC, which is not read without pi-heif; {INSTALL}") from None
    if not image.info.get("primary"):  # pi-heif leaves out an image that is damaged, and opens another one
        image.close()
        raise BrokenImageError(NO_PRIMARY)
    return image


@contextmanager
def heic_errors() -> Iterator[None]:
    """Turn errors of pi-heif into BrokenImageError with an equal text for equal faults, without positions."""
    try:
        yield
    except (SyntaxError, ValueError, EOFError, RuntimeError) as error:
        text = str(error)
        if re.search(TRUNCATED, text, re.IGNORECASE):
            raise BrokenImageError("image file is truncated") from None
        if text == UNIDENTIFIED:
            raise BrokenImageError(NO_PRIMARY) from None
        text = re.sub(r" \(.*?\)|\b\d+\b", "", text.rpartition("error: ")[2].removeprefix("Invalid input: "))
        raise BrokenImageError(f"HEIC not readable: {' '.join(text.split())}") from None


def deep_heic(image: Image.Image) -> DeepImage | None:
    """Return a grey image of more than 8 bits; None for others: of colours pi-heif gives the upper 8 bits."""
    if not image.mode.startswith("I;16"):
        return None
    bits = int(image.info["bit_depth"])
    values = np.asarray(image) >> (16 - bits)  # pi-heif moves them up to 16 bits
    return DeepImage(values=values, mode="L", white=float(2**bits - 1))
