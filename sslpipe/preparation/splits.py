"""Splits: the choice of training, held-out and test images, and of the labelled images.

Each choice is random and stratified: it takes the same fraction, up to one image, of each class and of the images
without a label. It depends only on the seed and the labels, not on the platform or the version of numpy: only the raw
output of PCG64 is used, which numpy guarantees to keep. Each choice has its own random stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.seeds import RandomStream, mix
from sslpipe.data.store import PROTOCOLS, UNKNOWN, ProtocolName, Split
from sslpipe.decoding.entries import Entry
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.settings import CountOrZero, Range

Indices = NDArray[np.int64]

DrawName = Literal["by_class", "unlabelled", "blind"]
"""How test and held-out images are chosen. by_class: stratified by class. unlabelled: only from the images without a
label, so that all labels are used for training. blind: without the labels, so that labels that are added later do not
change the splits."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Training labels that methods may use: exactly one of per_class, fraction and images is given."""

    per_class: CountOrZero | None = None
    """Number of labelled images of each class. More: better classifiers, for more labels."""
    fraction: Annotated[float, Range(above=0, high=1)] | None = None
    """Fraction of the labels of each class, at least one image of each. Larger: better classifiers, for more labels."""
    images: str | None = None
    """Table whose column file names the labelled images, such as the questions of `sslpipe ask`, for experiments with
    chosen labels; the labels are the source's own. Relative to the working folder."""
    fold: CountOrZero = 0
    """Number of the random choice of labelled images; papers report the mean and standard deviation over folds. Its
    size has no meaning."""

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.per_class, self.fraction, self.images)) != 1:
            raise UserError("expected exactly one of the keys per_class, fraction and images")
        if self.images is not None and self.fold:
            raise UserError(
                f"fold: {self.fold} found, expected 0, since the images of a table are the same in each fold"
            )


def protocol_named(name: object) -> ProtocolName:
    """Return the value of the params key `protocol`. Raises UserError if it is not in PROTOCOLS."""
    for known in PROTOCOLS:
        if name == known:
            return known
    raise UserError(f"protocol: unknown value {name!r}{nearest(str(name), PROTOCOLS)}")


def draw_splits(
    entries: Sequence[Entry],
    *,
    test: float,
    held_out: float,
    protocol: ProtocolName,
    seed: int,
    draw: DrawName = "by_class",
) -> dict[Split, Indices]:
    """Return the indices into `entries` of each split, ascending; each entry is in exactly one split.

    test: fraction of test images if the source has no test part.
    held_out: fraction of the other images that is held out from training, for model selection, if the source has no
    such part.
    protocol: with "full" there are no test images, and those of the source are used for training.
    draw: see DrawName.
    """
    labels = (entry.label if entry.draw_label is None else entry.draw_label for entry in entries)
    label = np.array([UNKNOWN if draw == "blind" else each for each in labels], dtype=np.int64)
    part = np.array([entry.part or "" for entry in entries])
    everything = np.arange(len(entries))
    if protocol == "full":
        for_test = everything[:0]
    elif "test" in part:
        for_test = np.flatnonzero(part == "test")
    else:
        free = everything[(part != "held_out") & ((label < 0) | (draw != "unlabelled"))]
        for_test = _stratified(free, label[free], test, mix(seed, RandomStream.TEST_SPLIT))
    pool = np.setdiff1d(everything, for_test)
    if "held_out" in part:
        for_choice = np.flatnonzero(part == "held_out")
    else:
        free = pool[(label[pool] < 0) | (draw != "unlabelled")]
        for_choice = _stratified(free, label[free], held_out, mix(seed, RandomStream.HELD_OUT_SPLIT))
    return {"train": np.setdiff1d(pool, for_choice), "held_out": for_choice, "test": for_test}


def draw_labelled(label: Indices, classes: Sequence[str], labelled: Labelled | None, *, seed: int) -> Indices:
    """Return the indices of the labelled training images, ascending; empty if no label is known.

    label: [N] of the training images, UNKNOWN if there is none. labelled: None, and a table of images (see
    `chosen_images`), use all known labels.
    With the same seed and fold, a larger number per class adds images to those of a smaller number.
    Raises UserError if a class has fewer images than `labelled` requires.
    """
    known = np.flatnonzero(label >= 0)
    if labelled is None or labelled.images is not None or len(known) == 0:
        return known
    there = np.bincount(label[known], minlength=len(classes))
    if labelled.per_class is not None:
        wanted = np.full(len(classes), labelled.per_class)
        short = np.flatnonzero(there < wanted)
        if len(short):
            others = f", and {len(short) - 1} more classes have too few" if len(short) > 1 else ""
            raise UserError(
                f"prepare.labelled.per_class: {labelled.per_class} is more than the {there[short[0]]} labelled "
                f"training images of class {classes[short[0]]!r}{others}"
            )
    else:
        assert labelled.fraction is not None
        wanted = np.minimum(there, np.maximum(1, np.floor(labelled.fraction * there + 0.5).astype(np.int64)))
    # Fold 0 has the seed that it had before there were folds.
    fold = (labelled.fold,) if labelled.fold else ()
    return _take(known, label[known], wanted, mix(seed, RandomStream.LABELLED_SUBSET, *fold))


def _stratified(index: Indices, label: Indices, fraction: float, seed: int) -> Indices:
    """Choose round(fraction · N) of the N indices, ascending, stratified by label (largest remainder)."""
    there = np.bincount(label + 1)
    share = fraction * there
    wanted = np.floor(share).astype(np.int64)
    missing = int(np.floor(fraction * len(index) + 0.5)) - int(wanted.sum())
    wanted[np.argsort(wanted - share, kind="stable")[:missing]] += 1
    return _take(index, label + 1, wanted, seed)


def _take(index: Indices, group: Indices, wanted: Indices, seed: int) -> Indices:
    """Choose `wanted[g]` of the indices of each group g, ascending. index, group: [N]. wanted: [groups]."""
    order = np.argsort(np.random.PCG64(seed).random_raw(len(index)), kind="stable")
    order = order[np.argsort(group[order], kind="stable")]
    start = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(wanted)))])
    place = np.arange(len(index)) - start[group[order]]
    return np.sort(index[order[place < wanted[group[order]]]])
