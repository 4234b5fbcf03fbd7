"""Which images are for training, for model choice and for the test, and which labels a method may use.

A draw is stratified: each class (and the images without a label, taken together) gives the same fraction, up to one
image. It is a function of the seed and of the labels it draws from, whatever the version of numpy and the platform:
only the raw bits of PCG64 are used, whose stream numpy promises to keep. Each draw has a generator of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.entries import Entry
from sslpipe.data.seeds import mix
from sslpipe.data.store import PROTOCOLS, UNKNOWN, ProtocolName, Split
from sslpipe.io.errors import UserError, nearest
from sslpipe.io.settings import CountOrZero, Range

Indices = NDArray[np.int64]

DrawName = Literal["by_class", "unlabelled", "blind"]
"""by_class: each class gives its share. unlabelled: images without a label alone are drawn, so that every label there
is serves training. blind: labels are not looked at, so that labels that are added later move no image."""

TEST_DRAW, HELD_OUT_DRAW, LABELLED_DRAW = 11, 12, 13
"""What tells the draws' generators apart."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """How many of the known training labels a method may use: exactly one of per_class and fraction."""

    per_class: CountOrZero | None = None
    """The same number of every class."""
    fraction: Annotated[float, Range(above=0, high=1)] | None = None
    """The same fraction of every class, at least one image of each."""
    fold: CountOrZero = 0
    """Which of the independent draws of labelled images: papers report mean and deviation over folds."""

    def __post_init__(self) -> None:
        if (self.per_class is None) == (self.fraction is None):
            raise UserError("expected exactly one of the keys per_class and fraction")


def protocol_named(name: object) -> ProtocolName:
    """The value of the params key `protocol`; UserError where it is none of PROTOCOLS."""
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
    """Indices into `entries` of each split, ascending; together they are all entries, each once.

    test: fraction drawn for the test where the source has no test part of its own.
    held_out: fraction of the training images that is left, for model choice.
    protocol: with "full" nothing is kept for the test, and the source's own test images join training.
    draw: among which images, see DrawName.
    """
    label = np.array([UNKNOWN if draw == "blind" else entry.label for entry in entries], dtype=np.int64)
    everything = np.arange(len(entries))
    if protocol == "full":
        for_test = everything[:0]
    elif any(entry.part is not None for entry in entries):
        for_test = np.flatnonzero([entry.part == "test" for entry in entries])
    else:
        free = everything[label < 0] if draw == "unlabelled" else everything
        for_test = _stratified(free, label[free], test, mix(seed, TEST_DRAW))
    pool = np.setdiff1d(everything, for_test)
    free = pool[label[pool] < 0] if draw == "unlabelled" else pool
    for_choice = _stratified(free, label[free], held_out, mix(seed, HELD_OUT_DRAW))
    return {"train": np.setdiff1d(pool, for_choice), "held_out": for_choice, "test": for_test}


def draw_labelled(label: Indices, classes: Sequence[str], labelled: Labelled | None, *, seed: int) -> Indices:
    """Indices of the training images whose label a method may use, ascending; empty where no label is known.

    label: [N] of the training images, UNKNOWN where there is none. labelled: None uses every label that is known.
    With the same seed and fold, the images drawn for n per class are among those drawn for more.
    Raises UserError where a class has fewer images than asked for.
    """
    known = np.flatnonzero(label >= 0)
    if labelled is None or len(known) == 0:
        return known
    there = np.bincount(label[known], minlength=len(classes))
    if labelled.per_class is not None:
        wanted = np.full(len(classes), labelled.per_class)
        short = np.flatnonzero(there < wanted)
        if len(short):
            others = f", and {len(short) - 1} more classes have too few" if len(short) > 1 else ""
            raise UserError(
                f"prepare.labelled.per_class: {labelled.per_class} asked, but class {classes[short[0]]!r} has "
                f"{there[short[0]]} labelled training images{others}"
            )
    else:
        assert labelled.fraction is not None
        wanted = np.minimum(there, np.maximum(1, np.floor(labelled.fraction * there + 0.5).astype(np.int64)))
    # Fold 0 is what was drawn before there were folds.
    draw = mix(seed, LABELLED_DRAW, labelled.fold) if labelled.fold else mix(seed, LABELLED_DRAW)
    return _take(known, label[known], wanted, draw)


def _stratified(index: Indices, label: Indices, fraction: float, seed: int) -> Indices:
    """round(fraction N) of the N indices, ascending; each label gives its share, by largest remainder."""
    there = np.bincount(label + 1)
    share = fraction * there
    wanted = np.floor(share).astype(np.int64)
    missing = int(np.floor(fraction * len(index) + 0.5)) - int(wanted.sum())
    wanted[np.argsort(wanted - share, kind="stable")[:missing]] += 1
    return _take(index, label + 1, wanted, seed)


def _take(index: Indices, group: Indices, wanted: Indices, seed: int) -> Indices:
    """`wanted[g]` of the indices of each group g, ascending. index, group: [N]; wanted: [number of groups]."""
    order = np.argsort(np.random.PCG64(seed).random_raw(len(index)), kind="stable")
    order = order[np.argsort(group[order], kind="stable")]
    start = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(wanted)))])
    place = np.arange(len(index)) - start[group[order]]
    return np.sort(index[order[place < wanted[group[order]]]])
