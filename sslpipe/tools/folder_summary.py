"""Summary of a folder of images, for the settings of a new project."""

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
"""Number of images that are opened, at equal distances in the folder (own choice: takes about a second)."""
GREY_BELOW = 3
"""An image is grey if its channels differ by less than this value, which allows for JPEG's rounding (own choice)."""


@dataclass(frozen=True, kw_only=True)
class FolderSummary:
    """Numbers of images and labels in a folder, and the size of the images."""

    images: int
    """Number of images."""
    width: int
    """Median width over the sample, pixels."""
    height: int
    """Median height over the sample, pixels."""
    side: int
    """Median length of the shorter side over the sample, pixels."""
    channels: int
    """1 if all images of the sample are grey, else 3."""
    broken: int
    """Number of broken images in the sample."""
    sampled: int
    """Number of images in the sample."""
    classes: tuple[str, ...]
    """Names of the classes."""
    labelled: int
    """Number of labelled images."""
    rarest: int
    """Number of labelled images of the rarest class, without test images; 0 without classes."""
    has_test: bool
    """Whether the folder has test images of its own."""

    def __str__(self) -> str:
        size = f"about {self.width} × {self.height} px, {'grey' if self.channels == 1 else 'colour'}"
        broken = f", {self.broken} of {self.sampled} sampled are broken" if self.broken else ""
        if not self.classes:
            return f"{self.images:,} images, {size}, no labels{broken}"
        labels = "all labelled" if self.labelled == self.images else f"{self.labelled:,} labelled"
        return f"{self.images:,} images, {size}, {len(self.classes)} classes, {labels}{broken}"


def scan_folder(images: Path, labels: Path | None) -> FolderSummary:
    """Summarise a folder of images; raises UserError, as prepare does, for no images and for unsuitable labels."""
    source = Source(Settings(path=str(images), labels=str(labels) if labels else None))
    entries = source.entries
    every = max(1, len(entries) // SAMPLE)
    sample = range(0, len(entries), every)
    opened = [each for each in map(_open, (source.load(i) for i in sample)) if each]
    if not opened:
        raise UserError(f"--images: none of {len(sample)} sampled images in {images} could be decoded")
    known = Counter(entry.label for entry in entries if entry.label != UNKNOWN and entry.part != "test")
    return FolderSummary(
        images=len(entries),
        width=round(median(width for width, _, _ in opened)),
        height=round(median(height for _, height, _ in opened)),
        side=round(median(min(width, height) for width, height, _ in opened)),
        channels=1 if all(grey for _, _, grey in opened) else 3,
        broken=len(sample) - len(opened),
        sampled=len(sample),
        classes=source.classes,
        labelled=sum(entry.label != UNKNOWN for entry in entries),
        rarest=min((known[label] for label in range(len(source.classes))), default=0),
        has_test=any(entry.part == "test" for entry in entries),
    )


def _open(path: Path) -> tuple[int, int, bool] | None:
    """Return width and height of an image and whether it is grey; None for a broken image."""
    from PIL import Image

    try:
        array = decode(path, size=32, channels=3).astype(np.int16)
        with Image.open(path, formats=image_formats()) as image:
            width, height = image.size
    except (BrokenImageError, OSError):
        return None
    return width, height, bool(np.ptp(array, axis=0).max() < GREY_BELOW)


def relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, so that both can be moved together; absolute if they share no parent."""
    there, here = os.path.abspath(path), os.path.abspath(folder)
    shared: Sequence[Any] = Path(os.path.commonpath([there, here])).parts
    return os.path.relpath(there, here) if len(shared) > 1 else there
