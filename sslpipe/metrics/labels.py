"""Checks of the arguments of metrics, and the selection of images with a known label."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN


def known_only(label: NDArray[Any], *others: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return `label` and each of `others` for the images with a known label only.

    label: [N] integers, UNKNOWN (-1) if the class is not known. others: [N, ...].
    Raises ValueError for other lengths, for labels that are not integers of at least -1, and if no label is known.
    """
    label = indices("label", label, least=UNKNOWN)
    for other in others:
        if len(other) != len(label):
            raise ValueError(f"{len(other)} rows found, expected one for each of {len(label)} labels")
    known = label != UNKNOWN
    if not known.any():
        raise ValueError(f"none of {len(label)} labels is known, so there is nothing to score against")
    if known.all():  # the usual case, in which nothing is copied
        return label, *map(np.asarray, others)
    return label[known], *(np.asarray(other)[known] for other in others)


def indices(name: str, values: NDArray[Any], *, least: int = 0) -> NDArray[np.int64]:
    """Return values [N] as int64. Raises ValueError with `name` if they are not integers of at least `least`."""
    values = np.asarray(values)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name}: shape {values.shape} of {values.dtype} found, expected [N] of integers")
    if values.size and values.min() < least:
        raise ValueError(f"{name}: {values.min()} found, expected at least {least}")
    return values.astype(np.int64)


def span(name: str, values: NDArray[np.int64], count: int | None) -> int:
    """Return the number of possible indices: `count`, or the highest value plus one if it is None.

    Raises ValueError with `name` if a value is not below `count`.
    """
    needed = int(values.max()) + 1 if values.size else 0
    if count is not None and needed > count:
        raise ValueError(f"{name}: {needed - 1} found, expected below {count}")
    return needed if count is None else count


def probabilities(probability: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities [N, K] of a floating type, without a copy of those that are floating-point.

    Raises ValueError for another shape, NaN, or values outside [0, 1].
    """
    probability = np.asarray(probability)
    if not np.issubdtype(probability.dtype, np.floating):
        probability = probability.astype(np.float64)
    least, most = (probability.min(), probability.max()) if probability.size else (0.0, 0.0)  # NaN where one value is
    # A softmax in half precision may exceed 1 by rounding.
    if probability.ndim != 2 or not (least >= 0 and most <= 1 + 1e-2):
        raise ValueError(f"probability: expected [N, K] in [0, 1] without NaN, shape {probability.shape} found")
    return probability
