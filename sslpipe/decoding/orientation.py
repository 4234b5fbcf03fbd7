"""The orientation of photos, from their EXIF."""

import struct

from PIL import Image

ORIENTATION = 274
"""The tag with the orientation."""
SHORT = 3
"""Type of a tag with integers of 16 bits."""
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation → how the pixels of the file are to be turned or mirrored."""


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image, 1 if there is none."""
    try:
        value = _tag_of_exif(image.info.get("exif", b""), ORIENTATION) or image.getexif().get(ORIENTATION)
    except Exception:  # Pillow raises many types of exceptions for malformed EXIF.
        return 1
    return value if isinstance(value, int) and value in TRANSPOSE else 1


def _tag_of_exif(exif: bytes, tag: int) -> int | None:
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
