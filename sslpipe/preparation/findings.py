"""What prepare finds in the images that a user should know: colours that are dropped, clipped values, duplicates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import UNKNOWN, Split
from sslpipe.decoding.deep_image import DeepValues, ValueRange, proposed_range, shown_number
from sslpipe.decoding.entries import Entry
from sslpipe.decoding.image_info import DIGEST_BYTES, ImageInfo
from sslpipe.io.text import counted

DARK = 0.25
"""Deep images are nearly black if none of them exceeds this share of their range, as with 14 bits in 16 (own choice).
It is a rule for all images together: a dark image among brighter ones is right."""


@dataclass
class Findings:
    """What is known of all images, collected while they are decoded."""

    images: int = 0
    colour: int = 0
    clipped: int = 0
    further: int = 0
    on_black: int = 0
    deep: int = 0
    """Number of images of more than 8 bits."""
    values: DeepValues | None = None
    """The lowest and the highest value of all deep images, and the smallest value that became white."""
    brightest: float = 0.0
    """The highest share of its range that a deep image uses."""
    _digests: bytearray = field(default_factory=bytearray)
    _index: list[NDArray[np.int64]] = field(default_factory=list)
    _split: dict[Split, int] = field(default_factory=dict)

    def add(self, split: Split, index: NDArray[np.int64], image_info: Sequence[ImageInfo]) -> None:
        """Add decoded images of a split; index: [n] indices of their entries."""
        self._index.append(index)
        self._split[split] = self._split.get(split, 0) + len(index)
        for image in image_info:
            self.images += 1
            self.colour += image.colour
            self.clipped += image.clipped
            self.further += image.further
            self.on_black += image.on_black
            self._digests += bytes.fromhex(image.digest)
            if image.deep:
                self.deep += 1
                self.values = image.deep if self.values is None else self.values.joined(image.deep)
                self.brightest = max(self.brightest, image.deep.high / image.deep.white)

    def lines(
        self,
        duplicates: Sequence[Sequence[Mapping[str, Any]]],
        *,
        channels: int,
        value_range: ValueRange | None,
    ) -> list[str]:
        """Return one line for each finding: what it is, of how many images, and how to overrule it."""
        return [
            *self._of_values(value_range),
            *self._of_colours(channels),
            *self._of_files(),
            *_of_duplicates(duplicates),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the numbers for the report."""
        names = ("colour", "clipped", "further", "on_black", "deep")
        values = [self.values.low, self.values.high] if self.values else None
        return {**{name: getattr(self, name) for name in names}, "values": values}

    def duplicates(self, entries: Sequence[Entry], classes: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return the groups of images with equal pixels: file, class (None if it is not known) and split of each."""
        digests = np.frombuffer(bytes(self._digests), f"S{DIGEST_BYTES}")
        _, group, count = np.unique(digests, return_inverse=True, return_counts=True)
        index = np.concatenate([np.zeros(0, np.int64), *self._index])
        split = [name for name, images in self._split.items() for _ in range(images)]
        groups: dict[int, list[dict[str, Any]]] = {}
        for place in np.flatnonzero(count[group] > 1).tolist():
            entry = entries[index[place]]
            image = {
                "file": entry.name,
                "class": None if entry.label == UNKNOWN else classes[entry.label],
                "split": split[place],
            }
            groups.setdefault(int(group[place]), []).append(image)
        return list(groups.values())

    def _of_values(self, value_range: ValueRange | None) -> Iterator[str]:
        if self.values is None:
            return
        proposed, current = proposed_range(self.values), value_range or (0.0, self.values.white)
        low, high = map(shown_number, proposed)
        setting = f"prepare.value_range: [{low}, {high}]"
        if self.clipped:
            beyond = " to ".join(map(shown_number, current))
            hint = f"; {setting}" if proposed != current else ""  # equal if they are not numbers
            yield f"{counted(self.clipped, 'image')} with values beyond {beyond}, clipped{hint}"
        elif value_range is None and self.brightest < DARK:
            found = f"at most {shown_number(self.values.high)} of {shown_number(self.values.white)}"
            yield f"{counted(self.deep, 'image')} nearly black, {found}; {setting}"

    def _of_colours(self, channels: int) -> Iterator[str]:
        if channels == 1 and self.colour:
            yield f"{self.colour:,} of {counted(self.images, 'image')} in colour; prepare.channels: 3 keeps it"
        elif channels == 3 and not self.colour:
            yield "no image is in colour; prepare.channels: 1 is enough and faster"

    def _of_files(self) -> Iterator[str]:
        if self.further:
            yield f"{counted(self.further, 'file')} with further pages, frames or channels, not used"
        if self.on_black:
            yield f"{counted(self.on_black, 'transparent image')} put on black, since white would hide what is drawn"


def _of_duplicates(groups: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    if groups:
        images = sum(len(group) for group in groups)
        parts = [
            f"{count:,} {what}"
            for key, what in (("class", "across classes"), ("split", "across splits"))
            if (count := sum(len({image[key] for image in group} - {None}) > 1 for group in groups))
        ]
        across = f", {' and '.join(parts)}" if parts else ""
        yield f"{images:,} images equal to others, in {counted(len(groups), 'group')}{across}; delete copies"
