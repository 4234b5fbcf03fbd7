"""Sources of decoded images: published data sets, with one array of images per file."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.decoding.entries import Entry


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """The images of one file of a data set."""

    name: str
    """Used in the names of the images: <source>:<name>/<index in the file>."""
    part: Literal["train", "test"]
    images: NDArray[np.uint8]
    """Images [N, H, W, 3], of any strides; may be memory-mapped (np.memmap)."""
    labels: Sequence[int]
    """Labels of the N images: indices into the source's classes, or UNKNOWN."""


class ArraySource:
    """Base class of sources of arrays, which implements ImageSource; images are copied when they are loaded."""

    def __init__(self, settings: Any, *, name: str, classes: Sequence[str], files: Sequence[ArrayFile]) -> None:
        self.settings = settings
        self.classes = tuple(classes)
        self.entries = [
            Entry(f"{name}:{file.name}/{i}", label, file.part) for file in files for i, label in enumerate(file.labels)
        ]
        self.notes: Sequence[str] = ()
        self.ignored: Mapping[str, int] = {}
        self.unreadable: Mapping[str, str] = {}
        self._images = [file.images for file in files]
        self._start = list(accumulate((len(images) for images in self._images), initial=0))

    def load(self, index: int) -> NDArray[np.uint8]:
        """Return image `index`, [H, W, 3]."""
        file = bisect_right(self._start, index) - 1
        return np.ascontiguousarray(self._images[file][index - self._start[file]])
