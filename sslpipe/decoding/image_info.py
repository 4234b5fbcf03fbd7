"""What is known of a decoded image beside its pixels."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from sslpipe.decoding.deep_image import DeepValues

GREY_BELOW = 3
"""An image is grey if its channels differ by less than this value, which allows for JPEG's rounding (own choice)."""
DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInfo:
    """What is known of a decoded image beside its pixels."""

    size: tuple[int, int]
    """Width and height in the file, as it is seen."""
    digest: str = ""
    """BLAKE2b of the decoded array, 16 bytes in hexadecimal; empty before it is resized."""
    colour: bool = False
    """Whether its channels differ after resizing, also if it is stored in grey."""
    deep: DeepValues | None = None
    """The values of an image of more than 8 bits."""
    clipped: bool = False
    """Whether some of them are beyond the range of values."""
    further: bool = False
    """Whether the file has further pages, frames or channels."""
    on_black: bool = False
    """Whether it is transparent and was put on black."""


def digest_of(array: NDArray[np.uint8]) -> str:
    """Return the digest of a decoded array, which must be contiguous."""
    return blake2b(array.data, digest_size=DIGEST_BYTES).hexdigest()


def is_colour(array: NDArray[np.uint8]) -> bool:
    """Return whether the channels of an image [3, H, W] differ."""
    return bool((array.max(0) - array.min(0)).max() >= GREY_BELOW)
