"""Small pictures of images, one by one and on sprite sheets."""

from collections.abc import Iterator
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


def picture(image: NDArray[np.uint8]) -> Image.Image:
    """Return an image [C, H, W] as a picture of SIDE pixels, grey for fewer than 3 channels, else its first three.

    A larger image is reduced by averaging; the pixels of a smaller one are repeated, so that they remain visible.
    """
    channels = image[:3].transpose(1, 2, 0) if len(image) >= 3 else image[0]
    found = Image.fromarray(np.ascontiguousarray(channels))
    enlarged = found.height < SIDE
    return found.resize((SIDE, SIDE), Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


def write_sheets(images: ShownImages, folder: Path) -> dict[str, Any]:
    """Write the pictures of all images on sheets of COLUMNS × COLUMNS, one sheet in memory at a time.

    Picture i is on sheet i // PER_SHEET, in row (i % PER_SHEET) // COLUMNS and column i % COLUMNS. Returns what the
    page needs to know about them.
    """
    sheets = 0
    with progress("pictures", len(images), "images") as bar:
        for chunk in images.chunks(PER_SHEET):
            rows = -(-len(chunk) // COLUMNS)
            # The last sheet is only as high as its pictures.
            sheet = Image.new("L" if chunk.shape[1] < 3 else "RGB", (COLUMNS * SIDE, rows * SIDE))
            for i, image in enumerate(chunk):
                sheet.paste(picture(image), (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
            write_bytes(folder / f"{sheets:04d}.{SUFFIX}", _jpeg(sheet))
            sheets += 1
            bar.advance(len(chunk))
    return {"side": SIDE, "columns": COLUMNS, "perSheet": PER_SHEET, "sheets": sheets, "extension": SUFFIX}


def single_pictures(images: ShownImages, wanted: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the JPEG file of each of the wanted images; wanted: ascending indices among the images."""
    start = 0
    for chunk in images.chunks(PER_SHEET):
        for i in wanted[(wanted >= start) & (wanted < start + len(chunk))]:
            yield _jpeg(picture(chunk[i - start]))
        start += len(chunk)


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
