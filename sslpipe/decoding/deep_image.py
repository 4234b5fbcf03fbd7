"""An image of more than 8 bits, of signed integers or of floats, and one scale from its values to 0 to 255."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, log10, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sslpipe.decoding.image_formats import BrokenImageError

STRIP_PIXELS = 1 << 22
"""Number of pixels that are converted at a time from transparent or deep images (own choice: at most 100 MB)."""
SIXTEEN_BITS = 65535.0
TABLE = 1 << 16
"""Number of different values of 16 bits."""
LARGEST = 1e30
"""Values beyond this, such as the -3.4e38 of geographic files, stand for a missing value (own choice)."""
USUAL = (1.0, 255.0, 1023.0, 4095.0, 16383.0, SIXTEEN_BITS)
"""The usual values of white: of floats, and of 8, 10, 12, 14 and 16 bits."""

ValueRange = tuple[float, float]


@dataclass(frozen=True)
class DeepValues:
    """The values of a deep image before they are scaled."""

    low: float
    """The lowest finite value."""
    high: float
    """The highest finite value."""
    white: float
    """The value that becomes 255 if no value range is set."""
    unsigned: bool
    """Whether the values are unsigned integers."""

    def joined(self, other: "DeepValues") -> "DeepValues":
        """Return the values of two images together, with the smaller white."""
        return DeepValues(
            min(self.low, other.low),
            max(self.high, other.high),
            min(self.white, other.white),
            self.unsigned and other.unsigned,
        )


@dataclass(frozen=True, kw_only=True)
class DeepImage:
    """A deep image."""

    values: NDArray[Any]
    """[H, W] for the mode L, else [H, W, S]."""
    mode: str
    """L, RGB or CMYK."""
    white: float
    """The value that becomes 255 if no value range is set."""
    inverted: bool = False
    """Whether 0 is white."""
    missing: NDArray[np.bool_] | None = None
    """Which values the file declares to be none, of the shape of `values`; they become 0."""
    alpha: NDArray[np.uint8] | None = None
    """Opacity [H, W]."""
    premultiplied: bool = False
    """Whether the values are multiplied by the opacity."""
    orientation: int = 1
    """EXIF orientation that is still to be applied."""
    profile: bytes | None = None
    """ICC profile."""
    further: bool = False
    """Whether the file has further pages or channels."""

    def eight_bits(self, value_range: ValueRange | None) -> tuple[Image.Image, DeepValues | None, bool]:
        """Return the image in 8 bits, its values (None for values of 8 bits), and whether some were clipped.

        value_range: values that become 0 and 255; it does not apply to images of 8 bits. Raises BrokenImageError if no
        value is a finite number.
        """
        deep = self.values.dtype != np.uint8
        low, high, finite = _limits(self.values if self.missing is None else self.values[~self.missing])
        zero, white = value_range if value_range and deep else (0.0, self.white)
        values = scaled(self.values, zero, white)
        if self.inverted:
            values = 255 - values
        if self.missing is not None:
            values[self.missing] = 0
        mode = self.mode
        if self.alpha is not None:
            values = np.dstack([values, self.alpha])
            mode = {"L": "La", "RGB": "RGBa"}[mode] if self.premultiplied else f"{mode}A"
        height, width = values.shape[:2]
        image = Image.frombuffer(mode, (width, height), values, "raw", mode, 0, 1)
        if not deep:
            return image, None, False
        span = DeepValues(low, high, self.white, bool(np.issubdtype(self.values.dtype, np.unsignedinteger)))
        return image, span, low < zero or high > white or not finite


def of_samples(
    values: NDArray[Any], mode: str, *, white: float, extra: list[int], further: bool, **settings: Any
) -> DeepImage:
    """Return the image of samples [H, W, S], of which `extra` are kinds of those after the colours."""
    colours = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    if values.shape[-1] < colours:
        raise BrokenImageError(f"{values.shape[-1]} samples per pixel, expected {colours}")
    alpha = next((colours + i for i, kind in enumerate(extra) if kind in (1, 2)), None) if mode != "CMYK" else None
    opacity = None
    if alpha is not None and alpha < values.shape[-1]:
        opacity = scaled(values[..., alpha], 0.0, white)
    return DeepImage(
        values=values[..., 0] if colours == 1 else values[..., :colours],
        mode=mode,
        white=white,
        alpha=opacity,
        premultiplied=opacity is not None and 1 in extra,
        further=further or values.shape[-1] > colours + (alpha is not None),
        **settings,
    )


def white_of(dtype: np.dtype[Any], bits: int) -> float:
    """Return the value that becomes 255: 1 for floats; integers of 32 bits and more are taken to hold 16 bits."""
    if dtype.kind == "f":
        return 1.0
    if bits > 16:
        return SIXTEEN_BITS
    return float(2 ** (bits - (dtype.kind == "i")) - 1)


def check_size(pixels: int, limit: int) -> None:
    """Raise BrokenImageError for more pixels than the limit."""
    if pixels > limit:
        raise BrokenImageError(f"{pixels} pixels, more than the {limit} of prepare.max_pixels (predict: --max-pixels)")


def strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Return the first row and the end of each strip of about STRIP_PIXELS of an image."""
    rows = max(1, STRIP_PIXELS // width)
    return ((top, min(height, top + rows)) for top in range(0, height, rows))


def scaled(values: NDArray[Any], zero: float, white: float) -> NDArray[np.uint8]:
    """Scale values [H, W] or [H, W, S] such that `zero` becomes 0 and `white` 255; what is not a number becomes 0."""
    result = np.empty(values.shape, np.uint8)
    table = None
    if values.dtype == np.uint16 and values.size > TABLE:  # twice as fast
        table = scaled(np.arange(TABLE, dtype=np.uint32)[None], zero, white)[0]
    for top, bottom in strips(*values.shape[:2]):
        if table is not None:
            result[top:bottom] = table[values[top:bottom]]
            continue
        strip = (values[top:bottom].astype(np.float64) - zero) * (255.0 / (white - zero))
        result[top:bottom] = np.rint(np.nan_to_num(strip, nan=0.0, posinf=255.0, neginf=0.0).clip(0.0, 255.0))
    return result


def _limits(values: NDArray[Any]) -> tuple[float, float, bool]:
    """Return the lowest and the highest value of those up to LARGEST, and whether these are all."""
    low, high = (float(values.min()), float(values.max())) if values.size else (nan, nan)
    if low > -LARGEST and high < LARGEST:
        return low, high, True
    finite = values[np.abs(values) < LARGEST]
    if not finite.size:
        raise BrokenImageError(f"no finite value among its {values.dtype} values")
    return float(finite.min()), float(finite.max()), False


def proposed_range(values: DeepValues) -> ValueRange:
    """Return a range for values: 0 to the highest number of 8, 10, 12, 14 or 16 bits, for unsigned integers.

    For others: 0 to 1, 255 or the like if they use more than half of it, else the lowest and the highest value, rounded
    outwards to two digits of their difference.
    """
    low, high = values.low, values.high
    for top in USUAL:
        if low >= 0 and high <= top and ((values.unsigned and top > 1) or top / 2 < high):
            return 0.0, top
    step = 10.0 ** (floor(log10(max(high - low, 1e-6))) - 1)
    bottom, top = (round(bound * step, 12) for bound in (floor(low / step), ceil(high / step)))
    return bottom, max(top, bottom + step)


def plain_number(value: float) -> float:
    """Return a number as it is written in params.yaml: a whole number as an integer."""
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


def shown_number(value: float) -> str:
    """Return a number for a message, as it is written in params.yaml."""
    return str(plain_number(value))
