"""Labels of images from files such as labels.csv and Hugging Face's metadata.csv."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sslpipe.io.errors import UserError
from sslpipe.preparation.class_names import plain, spelling
from sslpipe.preparation.image_names import ImageNames
from sslpipe.preparation.questions_file import questions_in
from sslpipe.preparation.tables import Column, MissingColumnError, Table, quoted, read_table

SETTING = "prepare.folder.labels"
NO_LABEL_SETTING = "prepare.folder.no_label"
STEMS = ("labels", "metadata")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
IMAGE_COLUMNS = {f"{start}{end}" for start in ("image", "img") for end in ("", "file", "filename", "name", "path")}
FILE = Column(
    "file", frozenset({"filename", "filepath", "path", *IMAGE_COLUMNS}), frozenset({"id", "imageid", "imgid"})
)
LABEL_COLUMNS = ("labels", "labelname", "class", "classname", "classlabel", "category", "categoryname")
LABEL = Column("label", frozenset({*LABEL_COLUMNS, "target", "targetname"}))
NO_LABEL = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""Texts that mean that an image has no label: those that read_csv of pandas takes as missing (its `na_values`)."""
PERHAPS_NO_LABEL = {"-1", "-", "?", ".", r"\n", "unknown", "unlabeled", "unlabelled"}
"""Texts, in lower case, that are classes, but that a note asks about (own choice)."""
SPREADSHEET_ERROR = re.compile(r"#¡?[^\W\d_][\w/]*[!?]|#NV|#N/D|Err:[0-9]{3}")
"""Errors that spreadsheets write, such as #REF!, in any language."""
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+(\.0+)?")


@dataclass(frozen=True)
class GivenLabels:
    """The labels of images, and what became of the rows."""

    label: dict[str, str] = field(default_factory=dict)
    """Image, relative to the root → its label."""
    notes: tuple[str, ...] = ()
    """Sentences of one line: what was not read as it is written, how often, and how to change that."""
    rows: int = 0
    """Number of rows with any text: one for each label, and those below."""
    unlabelled: int = 0
    """Number of rows without a label."""
    repeated: int = 0
    """Number of rows that repeat the label of an image."""
    asked: dict[str, str] = field(default_factory=dict)
    """Image whose label `sslpipe ask` asked for → its label before; "" for none."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the label of an image was read."""

    path: Path
    row: str
    """The row, as "line 2"."""
    text: str
    """The image's name in the file."""
    label: str
    before: str | None = None
    """Label before the image was asked for, "" for none; None if the row is no question."""

    def __str__(self) -> str:
        return f"{self.path} {self.row}"


def find_labels_files(root: Path) -> tuple[Path, ...]:
    """Return the labels files in a folder and its sub-folders of the first level: labels.csv, or else metadata.csv.

    Each has the suffix .csv, .tsv, .jsonl or .parquet. The metadata files are those of Hugging Face's ImageFolder, and
    are left out if there is any file named labels. In the folder itself, capitals make no difference. Files in
    unreadable folders are not found.
    """
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        return ()
    for stem in STEMS:
        wanted = [f"{stem}{suffix}" for suffix in SUFFIXES]
        found = [root / name for name in sorted(files) if name.lower() in wanted]
        below = (root / folder / name for folder in sorted(folders) for name in wanted)
        found += [path for path in below if os.path.exists(path) and not os.path.isdir(path)]
        if found:
            return tuple(found)
    return ()


def read_labels(
    paths: Sequence[Path],
    images: Collection[str],
    root: Path,
    *,
    no_label: Collection[str] = NO_LABEL,
    found: bool = False,
) -> GivenLabels:
    """Read labels of images from tables with a column for the file and one for the label.

    images: names relative to `root` with "/"; bytes other than UTF-8 as surrogates. no_label: labels that mean none,
    besides the empty text. found: the files come from `find_labels_files` and were not asked for. Then a metadata file
    without labels, and a file in a folder without images, is a note, and no error.
    Raises UserError, with file and line, for a file that cannot be read, a row that is not clear, a label of something
    other than exactly one image, an image with two labels, and two labels that are spelled alike.
    """
    images = dict.fromkeys(images)
    places: dict[str, _Place] = {}
    notes: list[str] = []
    rows = unlabelled = repeated = 0
    for path in paths:
        names = ImageNames(images, root, path.parent)
        if found and names.is_below and not any(image.startswith(f"{names.folder}/") for image in images):
            notes.append(f"{path}: not read, as its folder has no image; to read it, set {SETTING}")
            continue
        optional = found and path.stem.lower() != STEMS[0]
        try:
            table = _read(path, names)
        except MissingColumnError as error:
            if not optional:
                raise
            notes.append(f"{error}; no label is read from it")
            continue
        labelled, more = _labelled(path, table, no_label)
        if not labelled:
            if not optional:
                raise UserError(f"{path}: no label found, expected rows of file,label")
            notes.append(f"{path}: no label found")
        before = len(places)
        notes += [*more, *_match(labelled, names, root, places)]
        rows, unlabelled = rows + len(table.rows), unlabelled + len(table.rows) - len(labelled)
        if again := len(labelled) - (len(places) - before):
            repeated += again
            notes.append(f"{path}: rows that repeat an image with the same label: {again}")
    notes += _check_spelling(places.values(), no_label)
    return GivenLabels(
        {image: place.label for image, place in places.items()},
        tuple(notes),
        rows,
        unlabelled,
        repeated,
        {image: place.before for image, place in places.items() if place.before is not None},
    )


def _read(path: Path, names: ImageNames) -> Table:
    try:
        return read_table(path, str(path), FILE, LABEL, lambda text: len(names.find(text).images) == 1)
    except FileNotFoundError:
        raise UserError(f"{SETTING}: {path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _labelled(path: Path, table: Table, no_label: Collection[str]) -> tuple[list[_Place], list[str]]:
    """Return the rows that have a label, and notes."""
    notes = [f"{path}: {table.form}"] if table.form else []
    no_label = frozenset(no_label)
    words: Counter[str] = Counter()
    labelled = []
    before = questions_in(path, FILE)
    for number, text, value in table.rows:
        label = value.strip() if value else ""
        if not label or label in no_label:
            words[label] += 1
        else:
            labelled.append(_Place(path, f"{table.unit} {number}", text, label, before.get(number)))
    empty = words.pop("", 0)
    if words:
        counts = ", ".join(f"{count} with {quoted(word)}" for word, count in words.most_common())
        notes.append(
            f"{path}: rows without a label: {counts}, {empty} without text; to make one of these texts a class, "
            f"remove it from {NO_LABEL_SETTING}"
        )
    distinct = {place.label for place in labelled}
    if any("." in label for label in distinct) and all(map(WHOLE_NUMBER.fullmatch, distinct)):
        labelled = [replace(place, label=place.label.partition(".")[0]) for place in labelled]
        notes.append(f"{path}: labels such as '3.0' are read as '3', since all are whole numbers")
    return labelled, notes


def _match(labelled: list[_Place], names: ImageNames, root: Path, places: dict[str, _Place]) -> list[str]:
    """Add the image of each labelled row to `places`, and return notes."""
    differences: Counter[str] = Counter()
    examples: dict[str, str] = {}
    dropped: dict[str, _Place] = {}
    unknown: list[_Place] = []
    for place in labelled:
        match = names.find(place.text)
        if not match.images:
            unknown.append(place)
            continue
        image = match.images[0]
        if len(match.images) > 1:
            fits = " and ".join(map(quoted, match.images))
            raise UserError(f"{place}: {quoted(place.text)} fits {fits}, expected one image in {root}")
        if match.how:
            differences[match.how] += 1
            examples.setdefault(match.how, f"{quoted(place.text)} for {quoted(image)}")
        if match.dropped:
            dropped.setdefault(match.dropped, place)
            if len(dropped) > 1:
                raise UserError(
                    f"{place}: {quoted(place.text)} is an image in {root} only without its folders, and so is "
                    f"{quoted(next(iter(dropped.values())).text)}; expected the same folders before all names"
                )
        earlier = places.setdefault(image, place)
        if earlier.label != place.label:
            both = "" if earlier.text == place.text else f", for {quoted(earlier.text)}"
            raise UserError(
                f"{place}: {quoted(place.text)} has two labels, {quoted(earlier.label)} and {quoted(place.label)}; "
                f"the first is in {earlier.row if earlier.path == place.path else earlier}{both}"
            )
    if unknown:
        raise _unknown(unknown, names, root)
    path = labelled[0].path if labelled else ""
    return [
        f"{path}: names with {how}: {count} of {len(labelled)}, such as {examples[how]}"
        for how, count in differences.items()
    ]


def _unknown(unknown: list[_Place], names: ImageNames, root: Path) -> UserError:
    place = unknown[0]
    if not place.text.strip():
        return UserError(f"{place}: label {quoted(place.label)} without a file")
    close = names.nearest(place.text)
    more = f"; rows that name no image: {len(unknown)}" if len(unknown) > 1 else ""
    hint = f"; the nearest is {quoted(close)}" if close else ""
    return UserError(f"{place}: {quoted(place.text)} is not an image in {root}{hint}{more}")


def _check_spelling(places: Collection[_Place], no_label: Collection[str]) -> list[str]:
    """Raise UserError for labels that cannot be meant, and for two labels that are spelled alike; return notes."""
    counts = Counter(place.label for place in places)
    first: dict[str, _Place] = {}
    for place in places:
        first.setdefault(place.label, place)
    spelled: dict[str, _Place] = {}
    notes = []
    doubtful = {word.casefold() for word in no_label if word} | PERHAPS_NO_LABEL
    for label, place in first.items():
        if problem := label_problem(label):
            raise UserError(f"{place}: label {quoted(label)} {problem}")
        other = spelled.setdefault(label_spelling(label), place)
        if other is not place:
            equal = unicodedata.normalize("NFC", label) == unicodedata.normalize("NFC", other.label)
            one, two = (ascii(text) if equal else quoted(text) for text in (label, other.label))
            raise UserError(
                f"{place}: labels {one} ({counts[label]} ×) and {two} ({counts[other.label]} ×, first in "
                f"{other.row if other.path == place.path else other}) differ only in case, Unicode form, blanks or "
                "zeros; use one spelling, or other names if they are two classes"
            )
        if label.casefold() in doubtful:
            notes.append(
                f"{place}: label {quoted(label)} ({counts[label]} ×) is a class; if it means no label, "
                f"add it to {NO_LABEL_SETTING}"
            )
    return notes


def label_problem(label: str) -> str:
    """Return why a text cannot be meant as a label; "" if it can."""
    if not label.isprintable():
        categories = {unicodedata.category(character) for character in label}
        if "Cs" in categories:
            return "is not Unicode"
        if categories & {"Cc", "Zl", "Zp"}:
            return "has a line break or a control character, expected one line of text; is a quote missing?"
    if SPREADSHEET_ERROR.fullmatch(label):
        return "is an error of the spreadsheet, expected a text"
    if re.match(r'=[-+]?[\w("$]', label):
        return "is a formula, expected its value; in the spreadsheet, paste the column as values"
    if re.match(r"""[\[{]\s*["'\[{]""", label):
        return "is a list or an object, expected one label"
    return ""


def label_spelling(label: str) -> str:
    """Return a key that labels share that differ only in case, Unicode form, blanks, or zeros of whole numbers."""
    if WHOLE_NUMBER.fullmatch(label):
        digits = label.partition(".")[0]
        return ("-" if digits[0] == "-" else "") + digits.lstrip("+-0")
    form = plain(label)
    # Single letters are often images of letters, and then a and A are two classes.
    return form if len(form) == 1 else spelling(form)
