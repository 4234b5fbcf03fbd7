"""Pixels of a file as they are in it, by other layouts than Pillow would choose."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslpipe.decoding.image_formats import image_formats
from sslpipe.decoding.png_chunks import as_file


def rawmode(image: Image.Image) -> str:
    """Return the layout of a file's pixels, in Pillow's words."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def sample_halves(source: Path | bytes, layout: str, *, upper: str) -> NDArray[Any]:
    """Return the samples [H, W, S] of 16 bits of a file; upper: the byte order B or L that reads their upper halves."""
    samples = load_as(source, f"{layout};16{upper}").astype(np.uint16)
    samples <<= 8
    samples |= load_as(source, f"{layout};16{'L' if upper == 'B' else 'B'}")
    return samples


def load_as(source: Path | bytes, rawmode: str) -> NDArray[np.uint8]:
    """Return the pixels of a file, read with another layout."""
    with Image.open(as_file(source), formats=image_formats()) as image:
        tiles: Any = image.tile
        for i, tile in enumerate(tiles):
            args = (rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
            tiles[i] = tile._replace(args=args)
        return np.asarray(image)


def first_bytes(source: Path | bytes, count: int) -> bytes:
    """Return the first bytes of a file."""
    if isinstance(source, bytes):
        return source[:count]
    with source.open("rb") as file:
        return file.read(count)
