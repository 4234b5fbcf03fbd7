"""PNG files without the chunks that are not needed for the picture."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}
"""The critical chunks and the transparency."""
MOST_PROFILE = 16 << 20
"""Maximum size of a profile in bytes (own choice; those of printers have 2 to 5 MB)."""


def essential_png(path: Path, limit: int) -> tuple[bytes, bytes | None] | None:
    """Return a PNG file of the critical chunks, transparency and intact EXIF of a file, and the profile.

    None for a file that is no PNG, or with more than `limit` bytes of such chunks. Text, dates and private chunks,
    which may be too long or have a wrong checksum, are left out.
    """
    kept = [SIGNATURE]
    profile = None
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return None
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name not in KEPT | {b"eXIf", b"iCCP"}:
                file.seek(length + 4, 1)
                continue
            limit -= length
            if limit < 0:
                return None
            body = file.read(length + 4)
            if name == b"iCCP":
                profile = _profile(body[:-4])
            elif name != b"eXIf" or struct.pack(">I", zlib.crc32(name + body[:-4])) == body[-4:]:
                kept += [head, body]
    return b"".join(kept), profile


def _profile(body: bytes) -> bytes | None:
    """Return the profile in the body of a chunk iCCP, None if it is malformed."""
    start = body.find(b"\0") + 2
    try:
        return zlib.decompressobj().decompress(body[start:], MOST_PROFILE) or None
    except zlib.error:
        return None


def as_file(content: bytes | Path) -> BytesIO | Path:
    """Return what Pillow and tifffile open."""
    return BytesIO(content) if isinstance(content, bytes) else content
