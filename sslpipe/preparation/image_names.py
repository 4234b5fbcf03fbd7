"""The image that a path in a table means, as people and programs write paths."""

import os
import posixpath
import re
from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote

from sslpipe.preparation.tables import escaped

NEIGHBORS = 8
"""Number of names before and after a text in each sorted list that are compared with it (own choice)."""
COMPARED = 200
"""Maximum number of characters of names that are compared (own choice: the comparison takes quadratic time)."""

Kinds = tuple[str, ...]
"""Differences between a text and the name of the image that it means."""


@dataclass(frozen=True)
class Match:
    """The images that a text fits best."""

    images: tuple[str, ...] = ()
    """None, one, or two of several."""
    how: str = ""
    """Differences between the text and the image's name; "" for the name relative to the root."""
    dropped: str = ""
    """Leading folders of the text that the image's name does not have."""


class ImageNames:
    """The names of images relative to a root, found by the texts that a file in `folder` has for them.

    From the strictest to the loosest, a text fits an image if it is its path, relative to the root or to `folder` or
    absolute; with another case or Unicode form; without its suffix; with more folders before it; or without some of its
    folders. Backslashes, blanks around the text and URL encoding are replaced in each. The strictest that any image
    fits decides.
    """

    def __init__(self, images: Collection[str], root: Path, folder: Path) -> None:
        self.images = images if isinstance(images, dict) else dict.fromkeys(images)  # in order, for equal messages
        here = Path(os.path.abspath(root)).as_posix()
        self.roots = tuple(dict.fromkeys([here, Path(os.path.realpath(root)).as_posix()]))
        try:
            self.folder = Path(os.path.relpath(folder, root)).as_posix()
        except ValueError:  # another drive of Windows
            self.folder = "."
        self.is_below = self.folder != "." and not self.folder.startswith("..")

    def find(self, text: str) -> Match:
        """Return the images that a text fits."""
        # A file below the root, as of Hugging Face, has names relative to its own folder, or relative to the root.
        if text in self.images and not (self.is_below and self._under(f"{self.folder}/{text}") in self.images):
            return Match((text,))
        if not text.strip():
            return Match()
        paths: list[tuple[str, str, Kinds]] = []
        for form, kinds in _forms(text):
            of_form = list(self._paths(form, kinds))
            if match := _best((path, kinds, "") for path, kinds in of_form if path in self.images):
                return match
            paths += [(_key(path), path, kinds) for path, kinds in of_form]
        alike = ((path, kinds, image) for key, path, kinds in paths for image in self._keys.get(key, ()))
        stems = ((kinds, image) for key, _, kinds in paths for image in self._stems.get(key, ()))
        return (
            _best((image, (*kinds, _spelling(path, image)), "") for path, kinds, image in alike)
            or _best((image, (*kinds, "no suffix"), "") for kinds, image in stems)
            or self._with_other_folders(paths)
            or self._without_folders(paths)
            or Match()
        )

    def nearest(self, text: str) -> str:
        """Return the most similar name among the neighbours of a text in sorted lists of names; "" without images."""
        forms = list(_forms(text))
        wanted = _key(forms[-1][0])
        close: set[str] = set()
        for names, key in self._sorted:
            start = bisect(names, (key(wanted), ""))
            close |= {name for _, name in names[max(0, start - NEIGHBORS) : start + NEIGHBORS]}
        return max(sorted(close), key=lambda name: _similarity(wanted, _key(name)), default="")

    def _paths(self, form: str, kinds: Kinds) -> Iterator[tuple[str, Kinds]]:
        """Yield the paths relative to the root that a text may mean."""
        path = self._under(form)
        if form.startswith("/"):
            yield path, kinds if path.startswith("/") else (*kinds, "absolute paths")
            return
        yield path, kinds
        if self.folder != "." and (other := self._under(f"{self.folder}/{form}")) != path:
            yield other, (*kinds, "paths relative to the file")

    def _under(self, path: str) -> str:
        """Return a path relative to the root if it is below it."""
        path = posixpath.normpath(path)
        if not path.startswith(("/", "../")):
            return path
        whole = posixpath.normpath(posixpath.join(self.roots[0], path))
        return next((whole.removeprefix(f"{root}/") for root in self.roots if whole.startswith(f"{root}/")), path)

    def _with_other_folders(self, paths: Iterable[tuple[str, str, Kinds]]) -> Match | None:
        """Return the match of the longest end of a text that is an image, as after the folder was moved."""
        found: list[tuple[int, str, Kinds, str]] = []
        for key, path, kinds in paths:
            for start, end in enumerate(_ends(key), start=1):
                if images := {*self._keys.get(end, ()), *self._stems.get(end, ())}:
                    dropped = "/".join([*path.split("/")[:start], ""])
                    found += [(start, image, kinds, dropped) for image in sorted(images)]
                    break
        least = min((start for start, *_ in found), default=0)
        return _best(
            (image, (*kinds, "other folders before them"), dropped)
            for start, image, kinds, dropped in found
            if start == least
        )

    def _without_folders(self, paths: Iterable[tuple[str, str, Kinds]]) -> Match | None:
        """Return the match of a text that is the end of an image's path."""
        for index, more in ((self._all_ends, ()), (self._stem_ends, ("no suffix",))):
            hits = ((image, kinds) for key, _, kinds in paths for image in index.get(key, ()))
            if match := _best((image, (*kinds, "folders left out", *more), "") for image, kinds in hits):
                return match
        return None

    @cached_property
    def _keys(self) -> dict[str, tuple[str, ...]]:
        keys = [(_key(name), name) for name in self.images]
        # A name whose bytes are not UTF-8 may have been written in Windows-1252, as in old ZIP files.
        keys += [(_key(other), name) for name in self.images if (other := _windows_1252(name))]
        return _index(keys)

    @cached_property
    def _stems(self) -> dict[str, tuple[str, ...]]:
        return _index((_key(posixpath.splitext(name)[0]), name) for name in self.images)

    @cached_property
    def _all_ends(self) -> dict[str, tuple[str, ...]]:
        return _index((end, name) for name in self.images for end in _ends(_key(name)))

    @cached_property
    def _stem_ends(self) -> dict[str, tuple[str, ...]]:
        return _index((end, name) for name in self.images for end in _ends(_key(posixpath.splitext(name)[0])))

    @cached_property
    def _sorted(self) -> list[tuple[list[tuple[str, str]], Callable[[str], str]]]:
        """Return the names sorted by their beginning, by that of the file alone, and by their end."""
        ways: tuple[Callable[[str], str], ...] = (str, posixpath.basename, lambda key: key[::-1])
        return [(sorted((way(_key(name)), name) for name in self.images), way) for way in ways]


def _forms(text: str) -> Iterator[tuple[str, Kinds]]:
    """Yield a text as it is, and after each replacement that changes it."""
    kinds: Kinds = ()
    yield text, kinds
    for replaced, kind in (
        (str.strip, "blanks around them"),
        (lambda form: form.replace("\\", "/"), "backslashes"),
        (lambda form: unquote(re.sub("^file://(localhost)?", "", form), errors="surrogateescape"), "URL encoding"),
    ):
        if (form := replaced(text)) != text:
            text, kinds = form, (*kinds, kind)
            yield text, kinds


def _key(text: str) -> str:
    """Return a key that texts share that differ in case, Unicode form or blanks around them."""
    text = text.strip()
    return text.lower() if text.isascii() else normalize("NFC", normalize("NFC", text).casefold())


def _spelling(path: str, image: str) -> str:
    if normalize("NFC", path) == normalize("NFC", image):
        return "another Unicode form"
    return "another encoding" if escaped(image) else "another case"


def _windows_1252(name: str) -> str:
    """Return a name whose bytes are not UTF-8 as Windows-1252; "" for others."""
    return name.encode("utf-8", "surrogateescape").decode("cp1252", "replace") if escaped(name) else ""


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return key → images, at most two, since more make no difference."""
    index: dict[str, tuple[str, ...]] = {}
    for key, image in pairs:
        if key not in index:
            index[key] = (image,)
        elif len(index[key]) == 1 and index[key] != (image,):
            index[key] += (image,)
    return index


def _ends(path: str) -> Iterator[str]:
    """Yield the ends of a path, from the second folder on."""
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _best(hits: Iterable[tuple[str, Kinds, str]]) -> Match | None:
    """Return the match of all hits; None if there is none."""
    found: dict[str, tuple[Kinds, str]] = {}
    for image, kinds, dropped in hits:
        found.setdefault(image, (kinds, dropped))
    if not found:
        return None
    kinds, dropped = next(iter(found.values()))
    return Match(tuple(found)[:2], " and ".join(dict.fromkeys(kinds)), dropped)


def _similarity(first: str, second: str) -> float:
    pairs = ((first, second), (posixpath.basename(first), posixpath.basename(second)))
    return max(SequenceMatcher(None, a[-COMPARED:], b[-COMPARED:], autojunk=False).ratio() for a, b in pairs)
