"""The usual names of folders that are parts of a data set, such as train/ and test/."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sslpipe.decoding.entries import Part

PART_WORDS: Mapping[str, Part | None] = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "heldout", "holdout", "valset"), "held_out"),
    **dict.fromkeys(("test", "tests", "testing", "tst", "testset", "eval", "evaluation"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled", "unsup", "unsupervised"), None),
}
"""Usual name of a part → the part; None for training images without labels."""
GENERIC_WORDS = frozenset(
    {"data", "dataset", "file", "files", "folder", "image", "images", "img", "imgs", "jpeg", "jpg", "part", "photos"}
    | {"pictures", "png", "samples", "seg", "set", "split"}
)
"""Words that stand beside a part's name, as in training_set or seg_test."""


@dataclass(frozen=True)
class PartFolder:
    """A folder that is a part of the images."""

    part: Part
    labelled: bool
    """Whether its images may have labels: not in a folder such as unlabeled/."""


def part_named(name: str) -> PartFolder | None:
    """Return the part that a folder is by its name, in any case, such as Train, val2017 or test_set; else None."""
    words = words_of(name)
    kinds = {PART_WORDS[word] for word in words if word in PART_WORDS}
    count = sum(word in PART_WORDS for word in words)
    if not all(word in GENERIC_WORDS or word in PART_WORDS for word in words):
        return None
    if kinds == {"train", None} and count == 2:  # such as train_unlabeled
        return PartFolder("train", labelled=False)
    if count != 1:
        return None
    (part,) = kinds
    return PartFolder(part or "train", labelled=part is not None)


def words_of(name: str) -> list[str]:
    """Return the words of a folder's name in lower case, such as jpeg and images of JPEGImages_2."""
    name = re.sub(r"(?i)\b(held|hold)[ _-]out\b", r"\1out", name.replace("_", " "))
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+", name)]
