"""Pictures of the images on the page, from the store."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import Split, Store
from sslpipe.data.unread_images import StoredImages
from sslpipe.labelling.errors import NotThereError
from sslpipe.reporting.pictures import picture

THUMB = 128
"""Largest height and width of a small picture, pixels."""
LOSSLESS_BELOW = 100
"""Images with a smaller side are sent as PNG: the page enlarges them, and JPEG's blocks would show (own choice)."""
QUALITY = 90
"""JPEG quality of the others (own choice: above that of the report's pictures, because large ones are looked at)."""
SPLITS: tuple[Split, ...] = ("train", "held_out")
"""What the page shows: training images 0 … N-1 in the store's order, then held-out ones N … N+M-1."""


class Pictures:
    """Image files of a store's training and held-out images, as they were when it was opened.

    The files stay open: a run of the pipeline, which replaces the store, changes no picture on the page.
    """

    def __init__(self, store: Store) -> None:
        self._parts: list[StoredImages] = [store.images(split) for split in SPLITS]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def picture(self, image: int, *, large: bool) -> tuple[bytes, str]:
        """Return an image's file and its media type.

        image: its number on the page. large: at the stored size; else of at most THUMB pixels, and never enlarged.
        Raises NotThereError for a number that no image has.
        """
        pixels = self._pixels(image)
        side = pixels.shape[-1]
        shown = picture(pixels, side if large else min(side, THUMB))
        buffer = BytesIO()
        if side < LOSSLESS_BELOW:
            shown.save(buffer, "PNG")
            return buffer.getvalue(), "image/png"
        shown.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue(), "image/jpeg"

    def _pixels(self, image: int) -> NDArray[np.uint8]:
        """Return the pixels of an image, uint8 [C, S, S]."""
        index = image
        for part in self._parts:
            if 0 <= index < len(part):
                return part[index]
            index -= len(part)
        raise NotThereError(f"image {image}: there are {len(self)} images, from 0 on")
