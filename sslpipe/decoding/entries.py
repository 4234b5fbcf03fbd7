"""The entries of a source of images, and the interface of sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN

EncodedImage = Path | NDArray[np.uint8]
"""An image to decode: a file, or an array [H, W] (grey) or [H, W, 3] (colour)."""


Part = Literal["train", "held_out", "test"]
"""A part of a source that is given, not drawn; held_out are the images for model selection."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a source."""

    name: str
    """Origin of the image: the file relative to the source's folder, or the index in the data set."""
    label: int = UNKNOWN
    """Index of its class in the source's `classes`, or UNKNOWN."""
    part: Part | None = None
    """Part of the source that has the image; None for all images if the source has no parts."""
    draw_label: int | None = None
    """Label by which splits are drawn, if it is another one: that before `sslpipe ask` asked for the label, so that the
    answer moves no image to another split. Its numbers are those of the classes before."""
    asked: bool = False
    """Whether its label answers a question of `sslpipe ask`."""


class ImageSource(Protocol):
    """Interface of the class `Source` in each module of sslpipe.sources, constructed from the module's `Settings`."""

    @property
    def settings(self) -> Any:
        """The settings that it was constructed from, for the report."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of labels; empty if no image has a label."""

    @property
    def entries(self) -> Sequence[Entry]:
        """All images, in an order that depends only on the source."""

    @property
    def notes(self) -> Sequence[str]:
        """What was left out, read in another way or guessed, a sentence each; prepare prints them."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """Suffix → the number of files that were skipped because they are not images."""

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Folder of the source that could not be read → the reason."""

    def load(self, index: int) -> EncodedImage:
        """Return the image of entry `index`; it is pickled, since other processes decode it."""
