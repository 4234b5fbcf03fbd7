"""Arrays and numbers in the report's JSON."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

DECIMALS = 4
"""Decimals of numbers in the report (own choice: more are noise)."""


def encoded(array: NDArray[Any], dtype: str) -> str:
    """Return the base64 text of an array's values as a little-endian type, such as u2; they must be in its range.

    Raises ValueError for a value that the type does not have.
    """
    converted = np.ascontiguousarray(array).astype(np.dtype(dtype).newbyteorder("<"))
    if not np.array_equal(converted, array):
        raise ValueError(f"values from {array.min()} to {array.max()} found, not all of them are of type {dtype}")
    return base64.b64encode(converted.tobytes()).decode()


def decoded(text: str, dtype: str) -> NDArray[Any]:
    """Return the array [·] of a base64 text, as `encoded` writes it."""
    return np.frombuffer(base64.b64decode(text), np.dtype(dtype).newbyteorder("<"))


def byte_of(fraction: NDArray[Any]) -> NDArray[np.uint8]:
    """Return fractions × 255, rounded; values below 0 become 0, and values above 1 become 255."""
    return np.rint(np.clip(np.asarray(fraction, np.float64), 0, 1) * 255).astype(np.uint8)


def rounded(value: float) -> float:
    """Return a number with the decimals that the report shows."""
    return round(float(value), DECIMALS)
