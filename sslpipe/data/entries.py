"""What prepare knows of each image before it is decoded, and what every source of images offers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN

Picture = Path | NDArray[np.uint8]
"""An image to decode: a file, or an array that is there already, [H, W] grey or [H, W, 3] colour."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a source."""

    name: str
    """Where it came from, for a person: the file below the source's folder, or a place in the data set."""
    label: int = UNKNOWN
    """Place of its class in the source's `classes`, or UNKNOWN."""
    part: Literal["train", "test"] | None = None
    """The part that the source itself puts it in; None for every image where the source has no test part."""


class ImageSource(Protocol):
    """A data set or kind of input: the class `Source` of each module of sslpipe.sources, made from its `Settings`."""

    @property
    def settings(self) -> Any:
        """The frozen dataclass that it was made from, for the report."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their labels; empty where no image has a label."""

    @property
    def entries(self) -> Sequence[Entry]:
        """All images, in an order that depends on nothing but the source."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """How many files were passed over because they are no images, by suffix."""

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Folders of the source that could not be looked into, and why."""

    def load(self, index: int) -> Picture:
        """What to decode for entry `index`; it must be picklable, since other processes decode it."""
