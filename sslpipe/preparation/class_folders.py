"""Doubts whether the sub-folders of a folder are classes, from their names and those of their images."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from sslpipe.io.text import counted, listed
from sslpipe.preparation.class_names import difference, spelling
from sslpipe.preparation.part_names import GENERIC_WORDS, PART_WORDS, part_named, words_of

ANY_CLASS_WORDS = (GENERIC_WORDS - {"part", "photos", "pictures"}) | {
    *("annotations", "batch", "batches", "chunk", "dcim", "depth", "fold", "folds", "ground", "groundtruth", "labels"),
    *("rgb", "segmentation", "segmentations", "shard", "thumbnails", "thumbs", "trimaps", "truth"),
}
"""Words in the names of folders for images of any class, such as images_001, fold2 or ground_truth."""
SERIES = {
    "dates": re.compile(r"(?:photos from )?(?:19|20)\d\d(?:([-_. ]?)\d\d(?:\1\d\d)?)?", re.IGNORECASE),
    "a camera's folders": re.compile(r"\d{3}(?=\w*[A-Z_])[A-Z0-9_]{5}|\d{6}_[_a-z]"),
}
"""Kind of names that are no classes where all sub-folders have one, as 2024-05, or DCIM's 100APPLE and 202405__."""
MASK = re.compile(
    r"(.+?)[ _.-]?(?:depth|gt|ground[ _-]?truth|labels?|masks?|seg(?:mentation)?|trimap)(?:[ _-]?\d+)?", re.IGNORECASE
)
"""Name without suffix of a mask or a depth map beside its image, as in 12.png and 12_mask.png."""


def doubts(groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the reasons why sub-folders may not be classes, and what to do.

    groups: sub-folder → its images, relative to it.
    """
    yield from _spellings(groups)
    yield from _no_classes(groups)
    yield from _parts(groups)
    yield from _repeated(groups)


def holds_any_class(name: str) -> bool:
    """Return whether a folder has a name that no class has, such as images, fold2 or ground_truth."""
    words = words_of(name)
    return bool(words) and all(word in ANY_CLASS_WORDS for word in words)


def masks_note(images: Iterable[str]) -> list[str]:
    """Return a note on the images that are masks or depth maps of others by their names, if there are any."""
    stems = {image: image.rpartition(".")[0] or image for image in images}
    known = set(stems.values())
    found = [image for image, stem in stems.items() if (match := MASK.fullmatch(stem)) and match[1] in known]
    if not found:
        return []
    return [f"masks or depth maps by their names, read as any image: {counted(len(found), 'file')} ({listed(found)})"]


def folders_listed(names: Iterable[str]) -> str:
    """Return the names of folders for a message, a few of them if there are many."""
    return listed(f"{name}/" for name in names)


def _parts(groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Doubt classes with parts as sub-folders, as in cat/train and cat/test, and names such as trainA and testA."""
    for name, images in groups.items():
        parts = [below for below in _below(images) if part_named(below)]
        if len(parts) > 1:
            inside = listed(f"{name}/{part}/" for part in parts)
            yield f"parts inside of classes ({inside}), expected train/{name}/; move them"
            return
    known = {name: {PART_WORDS[word] for word in words_of(name) if PART_WORDS.get(word)} for name in groups}
    like = [name for name, parts in known.items() if parts]
    if len(set().union(*known.values())) > 1 and any("train" in parts for parts in known.values()):
        yield f"names of parts inside of {folders_listed(like)}; rename them to train, val and test if they are parts"


def _spellings(names: Iterable[str]) -> Iterator[str]:
    """Doubt classes whose names are spelled alike, such as Cat/ and cat/."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(spelling(name), name)
        if how := difference(other, name):
            pair = " and ".join(f"{each}/" if each.isascii() else f"{each!a}/" for each in (other, name))
            yield f"{pair} differ by {how}; rename one if they are one class"
            return


def _no_classes(names: Collection[str]) -> Iterator[str]:
    """Doubt classes with names of folders for images of any class, such as images/ and masks/, or fold1/ to fold5/."""
    if found := [name for name in names if holds_any_class(name)]:
        has = "has the name of a folder" if len(found) == 1 else "have names of folders"
        others = [name for name in names if name not in found]
        beside = (
            f", beside {folders_listed(others)}; move one or the other away"
            if others
            else "; keep one of them, or merge them"
        )
        yield f"{folders_listed(found)} {has} for images of any class{beside}"
    for kind, pattern in SERIES.items():
        if all(map(pattern.fullmatch, names)):
            yield f"{folders_listed(names)} have names of {kind}, not of classes; rename them"


def _repeated(groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Doubt classes whose sub-folders may be the classes, as in site1/cat, site1/dog, site2/cat and site2/dog."""
    below = {name: dict.fromkeys(_below(images)) for name, images in groups.items()}
    for name, inner in below.items():
        if len(again := [folder for folder in inner if folder in groups]) > 1:
            yield f"{folders_listed(again)} in {name}/ as well as beside it; move one of them away"
            return
    names = next(iter(below.values()))
    shared = [folder for folder in names if all(folder in inner for inner in below.values())]
    if len(shared) > 1 and all("/" in image for images in groups.values() for image in images):
        yield (
            f"{folders_listed(shared)} in each of {folders_listed(groups)}, so that either may be the classes; "
            "if the inner ones are, merge those of the same name"
        )


def _below(images: Iterable[str]) -> list[str]:
    """Return the first folders of paths."""
    return list(dict.fromkeys(folder for folder, slash, _ in (image.partition("/") for image in images) if slash))
