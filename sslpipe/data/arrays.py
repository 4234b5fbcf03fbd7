"""Sources whose images are arrays already, one for each file of a published data set."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.entries import Entry


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """The images of one file."""

    name: str
    """Names the images: <source>:<name>/<place in the file>."""
    part: Literal["train", "test"]
    images: NDArray[np.uint8]
    """[N, H, W, 3], in whatever order in memory; may lie on the disk (np.memmap)."""
    labels: Sequence[int]
    """N places in the source's classes, or UNKNOWN."""


class ArraySource:
    """What every source of arrays offers (see ImageSource): an image is copied when it is asked for."""

    def __init__(self, settings: Any, *, name: str, classes: Sequence[str], pieces: Sequence[ArrayFile]) -> None:
        self.settings = settings
        self.classes = tuple(classes)
        self.entries = [
            Entry(f"{name}:{piece.name}/{i}", label, piece.part)
            for piece in pieces
            for i, label in enumerate(piece.labels)
        ]
        self.ignored: Mapping[str, int] = {}
        self.unreadable: Mapping[str, str] = {}
        self._images = [piece.images for piece in pieces]
        self._start = list(accumulate((len(images) for images in self._images), initial=0))

    def load(self, index: int) -> NDArray[np.uint8]:
        """[H, W, 3]."""
        piece = bisect_right(self._start, index) - 1
        return np.ascontiguousarray(self._images[piece][index - self._start[piece]])
