"""Which training images a model calls otherwise than another one did."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

SHOWN = 12
"""Images of each pair of names that are shown."""


Row = TypedDict("Row", {"from": str, "to": str, "count": int, "images": list[int]})
"""The images with one name before and another one now: how many, and SHOWN of them."""


def changes(before: Sequence[str], after: Sequence[str], confidence: NDArray[np.floating]) -> list[Row]:
    """Return a row for each pair of names that images had and have, the pair with the most images first.

    before, after: [N], the name of each image; an image without a name before, "", is no change. confidence: [N], of
    the names after; images of a row are the SHOWN most confident ones, the most confident first, the lowest image first
    among equals, as pairs with equal counts are in the order of their names.
    """
    if not len(before) == len(after) == len(confidence):
        raise ValueError(f"{len(before)} names before, {len(after)} after and {len(confidence)} confidences found")
    pairs: dict[tuple[str, str], list[int]] = {}
    for image in np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable").tolist():
        if before[image] and before[image] != after[image]:
            pairs.setdefault((before[image], after[image]), []).append(image)
    order = sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"from": old, "to": new, "count": len(each), "images": each[:SHOWN]} for (old, new), each in order]
