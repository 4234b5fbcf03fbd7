"""Summary of a folder of images, for the settings of a new project."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from sslpipe.data.store import UNKNOWN
from sslpipe.decoding.decode import decode_with_info
from sslpipe.decoding.deep_image import DeepValues
from sslpipe.decoding.image_formats import BrokenImageError
from sslpipe.decoding.image_info import ImageInfo
from sslpipe.decoding.pixels import Form
from sslpipe.io.errors import UserError
from sslpipe.io.text import counted
from sslpipe.preparation.findings import Findings
from sslpipe.preparation.folder_layout import LayoutName
from sslpipe.sources.folder import Settings, Source

SAMPLE = 200
"""Number of random images that are opened (own choice: takes about a second)."""
SAMPLE_FORM = Form(size=32, channels=3)
"""How sampled images are decoded (own choice: small, since only colour, size and depth are needed)."""


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
    reason: str = ""
    """The most common reason why they are broken."""
    sampled: int
    """Number of images in the sample."""
    classes: tuple[str, ...]
    """Names of the classes."""
    labelled: int
    """Number of labelled images."""
    rarest: int
    """Number of labelled training images of the rarest class; 0 without classes."""
    test: int = 0
    """Number of test images that the folder has of its own."""
    held_out: int = 0
    """Number of images for model selection that the folder has of its own, such as in val/."""
    rarest_class: str = ""
    """Name of the rarest class."""
    source: Source | None = None
    """The images, and how the folder was read."""
    further: int = 0
    """Number of files in the sample with further pages or frames, which are not used."""
    deep: int = 0
    """Number of images of more than 8 bits in the sample."""
    values: DeepValues | None = None
    """The lowest and the highest value of these images; None if there are none."""

    def __str__(self) -> str:
        size = f"about {self.width} × {self.height} px, {'grey' if self.channels == 1 else 'colour'}"
        broken = f", broken in the sample: {self.broken} of {self.sampled} ({self.reason})" if self.broken else ""
        if self.further:
            broken += f", with further pages or frames, not used: {self.further} of {self.sampled}"
        images = counted(self.images, "image")
        if not self.classes:
            return f"{images}, {size}, no labels{broken}"
        labels = "all labelled" if self.labelled == self.images else f"{self.labelled:,} labelled"
        classes = f"{len(self.classes):,} {'class' if len(self.classes) == 1 else 'classes'}"
        return f"{images}, {size}, {classes}, {labels}{broken}"


def scan_folder(images: Path, labels: Path | None, layout: LayoutName | None = None) -> FolderSummary:
    """Summarise a folder of images; raises UserError, as prepare does, for no images and for unsuitable labels."""
    source = Source(Settings(path=str(images), labels=str(labels) if labels else None, layout=layout))
    entries = source.entries
    sample = np.random.default_rng(0).permutation(len(entries))[:SAMPLE].tolist()
    opened: list[ImageInfo] = []
    reasons: Counter[str] = Counter()
    for i in sample:
        try:
            opened.append(decode_with_info(source.load(i), SAMPLE_FORM)[1])
        except BrokenImageError as error:
            reasons[str(error)] += 1
    reason, count = next(iter(reasons.most_common(1)), ("", 0))
    if not opened:
        of_them = "" if len(reasons) == 1 else f", {count} of them because"
        raise UserError(
            f"--images: none of {len(sample)} sampled images in {images} could be decoded{of_them}: {reason}"
        )
    findings = Findings()
    findings.add("train", np.arange(len(opened)), opened)
    known = Counter(entry.label for entry in entries if entry.label != UNKNOWN and entry.part in (None, "train"))
    rarest = min(range(len(source.classes)), key=lambda label: known[label], default=0)
    return FolderSummary(
        source=source,
        images=len(entries),
        width=round(median(image_info.size[0] for image_info in opened)),
        height=round(median(image_info.size[1] for image_info in opened)),
        side=round(median(min(image_info.size) for image_info in opened)),
        channels=3 if findings.colour else 1,
        broken=len(sample) - len(opened),
        reason=reason,
        sampled=len(sample),
        classes=source.classes,
        labelled=sum(entry.label != UNKNOWN for entry in entries),
        rarest=known[rarest] if source.classes else 0,
        rarest_class=source.classes[rarest] if source.classes else "",
        test=sum(entry.part == "test" for entry in entries),
        held_out=sum(entry.part == "held_out" for entry in entries),
        further=findings.further,
        deep=findings.deep,
        values=findings.values,
    )


def relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, so that both can be moved together; absolute if they share no parent."""
    # A relative path begins in the real folder, even if a link leads there, and so does "..".
    there, here = os.path.abspath(os.path.expanduser(path)), os.path.realpath(folder)
    if ".." in path.parts:
        there = os.path.realpath(os.path.expanduser(path))
    shared = Path(os.path.commonpath([there, here])).parts
    return os.path.relpath(there, here) if len(shared) > 1 else there
