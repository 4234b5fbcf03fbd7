"""What a folder of images holds, seen before anything is set up."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sslpipe.data.decode import BrokenImageError, decode, image_formats
from sslpipe.data.store import UNKNOWN
from sslpipe.io.errors import UserError
from sslpipe.sources.folder import Settings, Source

SAMPLE = 200
"""Images that are opened, spread over all (own choice: takes about a second)."""
GREY_BELOW = 3
"""Largest difference between two channels of an image that counts as grey: JPEG rounds by so much (own choice)."""


@dataclass(frozen=True, kw_only=True)
class FolderSummary:
    """What was seen."""

    images: int
    width: int
    """Median over the sample, pixels, as are the next two."""
    height: int
    side: int
    """The shorter one."""
    channels: int
    """1 where all of the sample are grey, else 3."""
    broken: int
    """Of the sample."""
    sampled: int
    classes: tuple[str, ...]
    labelled: int
    rarest: int
    """Labelled images of the class that has fewest, test images left out; 0 without classes."""
    has_test: bool
    """The folder has a test part of its own."""

    def __str__(self) -> str:
        size = f"about {self.width} × {self.height} px, {'grey' if self.channels == 1 else 'colour'}"
        broken = f", {self.broken} of {self.sampled} sampled are broken" if self.broken else ""
        if not self.classes:
            return f"{self.images:,} images, {size}, no labels{broken}"
        labels = "all labelled" if self.labelled == self.images else f"{self.labelled:,} labelled"
        return f"{self.images:,} images, {size}, {len(self.classes)} classes, {labels}{broken}"


def scan_folder(images: Path, labels: Path | None) -> FolderSummary:
    """Summarise a folder of images; raises UserError, as prepare does, for no image or labels that do not fit."""
    source = Source(Settings(path=str(images), labels=str(labels) if labels else None))
    entries = source.entries
    every = max(1, len(entries) // SAMPLE)
    sample = range(0, len(entries), every)
    seen = [found for found in map(_open, (source.load(i) for i in sample)) if found]
    if not seen:
        raise UserError(f"--images: none of {len(sample)} sampled images in {images} could be decoded")
    known = Counter(entry.label for entry in entries if entry.label != UNKNOWN and entry.part != "test")
    return FolderSummary(
        images=len(entries),
        width=round(median(width for width, _, _ in seen)),
        height=round(median(height for _, height, _ in seen)),
        side=round(median(min(width, height) for width, height, _ in seen)),
        channels=1 if all(grey for _, _, grey in seen) else 3,
        broken=len(sample) - len(seen),
        sampled=len(sample),
        classes=source.classes,
        labelled=sum(entry.label != UNKNOWN for entry in entries),
        rarest=min((known[label] for label in range(len(source.classes))), default=0),
        has_test=any(entry.part == "test" for entry in entries),
    )


def _open(path: Path) -> tuple[int, int, bool] | None:
    """Width, height, and whether it is grey; None where it is broken."""
    from PIL import Image

    try:
        array = decode(path, size=32, channels=3).astype(np.int16)
        with Image.open(path, formats=image_formats()) as image:
            width, height = image.size
    except (BrokenImageError, OSError):
        return None
    return width, height, bool(np.ptp(array, axis=0).max() < GREY_BELOW)


def relative(path: Path, folder: Path) -> str:
    """A path as it is named from a folder, so that both may move together; absolute where they share no parent."""
    there, here = os.path.abspath(path), os.path.abspath(folder)
    shared: Sequence[Any] = Path(os.path.commonpath([there, here])).parts
    return os.path.relpath(there, here) if len(shared) > 1 else there
