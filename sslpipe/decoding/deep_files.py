"""Files of deep images that Pillow opens, but reduces to 8 bits or reads without their scale."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslpipe.decoding.deep_image import SIXTEEN_BITS, DeepImage, of_samples
from sslpipe.decoding.heic_files import FORMAT, deep_heic
from sslpipe.decoding.image_formats import BrokenImageError
from sslpipe.decoding.raw_layout import first_bytes, load_as, rawmode, sample_halves
from sslpipe.decoding.tiff_files import deep_tiff

MOST_HEADER = 10 * 2880
"""Number of first bytes that are searched for the scale of values (own choice: 360 entries of a FITS file)."""
JPEG_2000_SIZE = rb"\xff\x4f\xff\x51.{38}(.)"
"""The start of JPEG 2000's codestream up to the first channel's sign and number of bits - 1."""


def read_deep(image: Image.Image, source: Path | bytes) -> DeepImage | None:
    """Return the deep image of a file that Pillow has opened but not loaded; None if it has 8 bits or fewer.

    Pillow reduces colours of 16 bits to their upper 8 bits; they are read twice, once for each half.
    """
    if image.format == "TIFF":
        return deep_tiff(image, source)
    if image.format == "PNG" and rawmode(image).endswith(";16B"):
        return _deep_png(image, source)
    if image.format == FORMAT:
        return deep_heic(image)
    if image.mode[0] not in "IF":
        _check_jpeg_2000(image, source)
        return None
    if image.format == "FITS":
        return _deep_fits(image, source)
    values = np.asarray(image)
    return DeepImage(values=values, mode="L", white=1.0 if values.dtype.kind == "f" else SIXTEEN_BITS)


def _check_jpeg_2000(image: Image.Image, source: Path | bytes) -> None:
    """Raise BrokenImageError for colours of more than 8 bits: Pillow rounds white up to 256, which becomes 0."""
    size = image.format == "JPEG2000" and re.search(JPEG_2000_SIZE, first_bytes(source, MOST_HEADER), re.DOTALL)
    if size and size[1][0] & 127 >= 8:
        raise BrokenImageError(
            "JPEG 2000 in colour of more than 8 bits, whose white would be black; convert it to TIFF"
        )


def _deep_png(image: Image.Image, source: Path | bytes) -> DeepImage:
    layout = rawmode(image).partition(";")[0]
    hidden = image.info.get("transparency")
    if layout == "I":
        values = np.asarray(image)
        alpha = None if hidden is None else _opaque(values != hidden)
        return DeepImage(values=values, mode="L", white=SIXTEEN_BITS, alpha=alpha)
    if layout == "LA":  # Pillow has no mode for it, so it is read as four bytes per pixel
        halves = load_as(source, "RGBA").astype(np.uint16)
        samples = halves[..., ::2] << 8 | halves[..., 1::2]
    else:
        samples = sample_halves(source, layout, upper="B")
    if layout != "RGB":
        return of_samples(samples, layout[:-1], white=SIXTEEN_BITS, extra=[2], further=False)
    alpha = None if hidden is None else _opaque((samples != np.array(hidden)).any(-1))
    return DeepImage(values=samples, mode="RGB", white=SIXTEEN_BITS, alpha=alpha)


def _opaque(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * np.uint8(255)


def _deep_fits(image: Image.Image, source: Path | bytes) -> DeepImage:
    """Return a FITS image: signed values, times BSCALE, plus BZERO."""
    values = np.asarray(image)
    head = first_bytes(source, MOST_HEADER)
    zero, scale = (_card(head, key, default) for key, default in ((b"BZERO", 0.0), (b"BSCALE", 1.0)))
    if values.dtype.kind == "f":
        return DeepImage(values=values * scale + zero, mode="L", white=1.0)
    if values.dtype.itemsize > 2:
        return DeepImage(values=values * scale + zero, mode="L", white=SIXTEEN_BITS)
    signed = values.astype(np.uint16).view(np.int16) * scale + zero
    if (zero, scale) == (32768.0, 1.0):  # how FITS holds unsigned integers
        return DeepImage(values=signed.astype(np.uint16), mode="L", white=SIXTEEN_BITS)
    return DeepImage(values=signed, mode="L", white=32767.0)


def _card(head: bytes, key: bytes, default: float) -> float:
    """Return a number in the header of a FITS file."""
    found = re.search(key.ljust(8) + rb"= *([-+0-9.EeDd]+)", head)
    return float(found[1].replace(b"D", b"E")) if found else default
