"""Small pictures of images, one by one and on sprite sheets."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslpipe.io.console import progress
from sslpipe.io.files import write_bytes
from sslpipe.reporting.shown_images import ShownImages

SIDE = 64
"""Height and width of a picture, pixels."""
COLUMNS = 32
PER_SHEET = COLUMNS * COLUMNS
FOLDER = "sprites"
SUFFIX = "jpg"
QUALITY = 85
"""JPEG quality (own choice: 75 shows blocks in pictures of 64 pixels, 95 needs twice the bytes)."""


def picture(image: NDArray[np.uint8], side: int = SIDE) -> Image.Image:
    """Return an image [C, H, W] as a picture of `side` pixels, grey for fewer than 3 channels, else its first three.

    A larger image is reduced by averaging; the pixels of a smaller one are repeated, so that they remain visible.
    """
    channels = image[:3].transpose(1, 2, 0) if len(image) >= 3 else image[0]
    found = Image.fromarray(np.ascontiguousarray(channels))
    enlarged = found.height < side
    return found.resize((side, side), Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


def write_sheets(images: ShownImages, folder: Path, first: Sequence[int] = ()) -> dict[str, Any]:
    """Write the pictures of all images on sheets of COLUMNS × COLUMNS, one sheet in memory at a time.

    Picture i is on sheet i // PER_SHEET, in row (i % PER_SHEET) // COLUMNS, column i % COLUMNS. first: images that
    are once more on sheets of their own, in this order, so that the first page does not wait for all sheets. Returns
    what the page needs to know about them.
    """
    with progress("pictures", len(images), "images") as bar:
        sheets = 0
        for chunk in images.chunks(PER_SHEET):
            write_bytes(folder / f"{sheets:04d}.{SUFFIX}", _jpeg(_sheet(chunk)))
            sheets += 1
            bar.advance(len(chunk))
    for number, start in enumerate(range(0, len(first), PER_SHEET)):
        chunk = images.take(np.array(first[start : start + PER_SHEET], np.int64))
        write_bytes(folder / f"first-{number:04d}.{SUFFIX}", _jpeg(_sheet(chunk)))
    size = {"side": SIDE, "columns": COLUMNS, "perSheet": PER_SHEET}
    return {**size, "sheets": sheets, "extension": SUFFIX, "first": list(first)}


def _sheet(images: NDArray[np.uint8]) -> Image.Image:
    """Return the pictures of up to PER_SHEET images [L, C, H, W] on a sheet, which is only as high as they need."""
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("L" if images.shape[1] < 3 else "RGB", (COLUMNS * SIDE, rows * SIDE))
    for i, image in enumerate(images):
        sheet.paste(picture(image), (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
    return sheet


def single_pictures(images: ShownImages, wanted: Sequence[int]) -> Iterator[bytes]:
    """Yield the JPEG file of each of the wanted images, indices among the N."""
    for i in wanted:
        yield _jpeg(picture(images.take(np.array([i]))[0]))


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
