"""Whether a store fits onto the disk, found before anything is decoded."""

import shutil
from pathlib import Path

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import partial_folder
from sslpipe.io.stage_end import size_text
from sslpipe.io.text import counted

LARGE = 1_000_000_000
LARGE_SHARE = 0.1
"""Bytes, and share of the free bytes, from which on a line tells the size of a store (own choices)."""
JPEG_SHARE = 0.15
"""Size of JPEG images over that of their pixels, assumed before they are encoded (own choice: photographs of 96 pixels
have 0.10 with quality 90, those of 32 pixels 0.23)."""


def check_space(out: Path, images: int, image_bytes: int, *, jpeg: bool) -> None:
    """Print the size of a large store. Raises UserError if there is less space where it will be written.

    out: folder of the store, which may not exist. image_bytes: bytes of the pixels of an image. What an unfinished run
    left counts as free: it is continued or deleted.
    """
    needed = round(images * image_bytes * (JPEG_SHARE if jpeg else 1))
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    try:
        free = shutil.disk_usage(existing).free
        left = partial_folder(out)
        free += sum(path.stat().st_size for path in left.rglob("*") if path.is_file()) if left.exists() else 0
    except OSError:
        return  # writing will tell
    size = f"{'about ' if jpeg else ''}{size_text(needed)}"
    if needed > free:
        smaller = "lower prepare.size" if jpeg else "set prepare.store: jpeg, lower prepare.size"
        raise UserError(
            f"{out}: {counted(images, 'image')} take {size}, but {size_text(free)} are free; {smaller}, or choose "
            "another disk with --out"
        )
    if needed > LARGE or needed > LARGE_SHARE * free:
        info(f"prepare: {counted(images, 'image')} take {size} of {size_text(free)} that are free in {existing}")
