"""Writing of the image store: the images of a source are decoded split by split, with their statistics."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.store import SPLITS, UNKNOWN, ProtocolName, Split, StoreInfo
from sslpipe.decoding.decode import Decoder
from sslpipe.decoding.entries import ImageSource
from sslpipe.decoding.pixels import MAX_PIXELS, Form
from sslpipe.io.console import progress
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_folder, write_array, write_json
from sslpipe.io.params import Params
from sslpipe.io.settings import Count, Fraction, Range, parse
from sslpipe.io.text import valid_text
from sslpipe.io.version import own_version
from sslpipe.preparation.chosen_images import listed_images, write_chosen
from sslpipe.preparation.disk_space import check_space
from sslpipe.preparation.journal import Journal, key_of_images
from sslpipe.preparation.jpeg_codec import jpeg_codec
from sslpipe.preparation.split_writer import SplitWriter, labels_of
from sslpipe.preparation.splits import DrawName, Labelled, draw_labelled, draw_splits


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The block `prepare`, without the blocks of the sources; the defaults are those of the demonstration on digits."""

    source: str = "digits"
    """Kind of input, a module of sslpipe.sources; its own settings are the block of this name."""
    size: Count = 16
    """Height and width of the images, in pixels. Larger: more detail; time, memory and disk space grow with its
    square."""
    channels: Literal[1, 3] = 1
    """1 (grey) or 3 (colour)."""
    test: Fraction = 0.25
    """Fraction of test images if the source has no test part. Larger: metrics with less noise, fewer images to train
    on."""
    held_out: Fraction = 0.1
    """Fraction of the other images that is held out from training, for model selection. Larger: a surer selection,
    fewer images to train on."""
    labelled: Labelled | None = None
    """Number of training labels that methods may use; null: all known labels."""
    draw: DrawName = "by_class"
    """How test and held-out images are chosen. by_class: the same share of each class. unlabelled: only images without
    a label, so that all labels are used for training; then only metrics without labels are available. blind: the labels
    are not read, so that labels that are added later do not change the splits."""
    value_range: tuple[float, float] | None = None
    """The values of images of more than 8 bits that become 0 and 255, such as [0, 4095] for 12 bits in files of 16; one
    scale for all images. null: 0 to 65535 for integers of 16 bits, 0 to 1 for floats (docs/pixels.md). Larger: darker
    images (second value), or more dark values that become 0 (first)."""
    max_pixels: Count = MAX_PIXELS
    """Maximum number of pixels of an image file; larger ones are broken. Reading takes up to 8 bytes per pixel, 20 with
    16 bits per channel. Larger: larger files are read, with more memory."""
    store: Literal["pixels", "jpeg"] = "pixels"
    """How images are stored. pixels: as they are. jpeg: as JPEG, in about a tenth of the disk space; pixels change a
    little, and each batch has to be decoded."""
    jpeg_quality: Annotated[int, Range(low=1, high=100)] = 90
    """JPEG quality with store: jpeg (own choice). Larger: pixels change less, more disk space."""

    def __post_init__(self) -> None:
        """Raise UserError for a range of values without a width."""
        if self.value_range is not None:
            low, high = self.value_range
            if not (isfinite(low) and isfinite(high) and low < high):
                raise UserError(f"value_range: [{low:g}, {high:g}] found, expected two numbers, the lower one first")


def read_settings(project: Params, *, sources: Sequence[str]) -> Settings:
    """Return the settings in the block `prepare` of params.yaml, without the blocks of the `sources` in it."""
    block = {} if (found := project.tree.get("prepare")) is None else found
    if isinstance(block, Mapping):
        block = {key: value for key, value in block.items() if key not in sources}
    return parse(Settings, block, where="prepare")


@dataclass(frozen=True)
class Prepared:
    """Summary of the store, for the last line of output of prepare."""

    info: StoreInfo
    classes: int
    labelled: int
    broken: int
    unreadable: int
    ignored: int
    findings: tuple[str, ...] = ()
    """What else should be known of the images, one line each."""

    def __str__(self) -> str:
        counts = ", ".join(f"{self.info.count(split)} {split}" for split in SPLITS)
        unreadable = f", {self.unreadable} folders unreadable" if self.unreadable else ""
        ignored = f", {self.ignored} other files skipped" if self.ignored else ""
        first = (
            f"{counts} images of {self.classes} classes, {self.labelled} labelled; "
            f"{self.broken} broken{unreadable}{ignored} (report.json)"
        )
        return "\n  ".join([first, *self.findings])


def write_store(
    out: Path,
    source: ImageSource,
    settings: Settings,
    *,
    protocol: ProtocolName,
    seed: int,
    workers: int,
    strict: bool,
) -> Prepared:
    """Write the store of a source's images to the folder `out`, atomically.

    A run that was killed is continued by the next one, see `Journal`. The files depend on the source, the settings, the
    protocol and the seed, but not on `workers`. The splits are chosen before decoding, so that repairing a broken file
    does not move other images; the labelled images are chosen from those that could be decoded.
    Raises UserError if there is no training image, if a class has too few labelled images, or with `strict` if an
    image is broken or a folder of the source unreadable.
    """
    entries = source.entries
    if strict and source.unreadable:
        name, reason = next(iter(source.unreadable.items()))
        raise UserError(
            f"prepare: {len(source.unreadable)} folders unreadable, refused by --strict; "
            f"the first is {name!r}: {reason}"
        )
    drawn = draw_splits(
        entries,
        test=settings.test,
        held_out=settings.held_out,
        protocol=protocol,
        seed=seed,
        draw=settings.draw,
    )
    # Raises an error for too few labels now, not after the images are decoded.
    draw_labelled(labels_of(entries, drawn["train"]), source.classes, settings.labelled, seed=seed)
    listed = listed_images(settings.labelled, entries, drawn)
    image_shape = (settings.channels, settings.size, settings.size)
    form = Form(
        size=settings.size,
        channels=settings.channels,
        value_range=settings.value_range,
        max_pixels=settings.max_pixels,
    )
    jpeg_quality = settings.jpeg_quality if settings.store == "jpeg" else None
    check_space(out, len(entries), prod(image_shape), jpeg=jpeg_quality is not None)
    journal = Journal(out, key_of_images(source, drawn, [form, jpeg_quality]), len(entries))
    decoder = Decoder(source, form, workers=workers)
    written: dict[Split, NDArray[np.int64]] = {}
    with (
        atomic_folder(out, keep=journal.is_begun) as folder,
        journal,
        decoder,
        jpeg_codec(jpeg_quality, image_shape, workers) as codec,
        progress("prepare", len(entries), "images") as shown,
    ):
        totals = SplitWriter(entries, decoder, journal, image_shape, codec, shown)
        for split in SPLITS:
            written[split] = totals.write(folder / split, split, drawn[split])
        broken = totals.broken
        if broken and strict:
            first = min(broken)
            raise UserError(
                f"prepare: {len(broken)} of {len(entries)} images broken, refused by --strict; "
                f"the first is {entries[first].name!r}: {broken[first]}"
            )
        if not len(written["train"]):
            raise UserError(
                f"prepare: no training image remains of {len(entries)} images, with prepare.test {settings.test:g} and "
                f"prepare.held_out {settings.held_out:g}{''.join(f'; {line}' for line in _commonest(broken.values()))}"
            )
        label = labels_of(entries, written["train"])
        _check_classes(source.classes, labels_of(entries, drawn["train"]), label, broken)
        drawn_labels = draw_labelled(label, source.classes, settings.labelled, seed=seed)
        labelled = listed.keep(written["train"]) if listed else drawn_labels
        mean, std = totals.statistics.mean_std()
        info = StoreInfo(
            size=settings.size,
            channels=settings.channels,
            mean=mean,
            std=std,
            train=len(written["train"]),
            held_out=len(written["held_out"]),
            test=len(written["test"]),
            protocol=protocol,
            fingerprint=totals.fingerprint.hexdigest(),
            value_range=settings.value_range,
            jpeg_quality=jpeg_quality,
            version=own_version(),
        )
        duplicates = totals.findings.duplicates(entries, source.classes)
        findings = [
            *_commonest(broken.values()),
            *totals.findings.lines(duplicates, channels=settings.channels, value_range=settings.value_range),
            *([listed.line(len(labelled))] if listed else []),
        ]
        (folder / "labelled").mkdir(exist_ok=True)
        write_array(folder / "labelled" / "index.npy", labelled)
        write_array(folder / "labelled" / "label.npy", label[labelled])
        write_json(folder / "labelled" / "classes.json", [valid_text(name) for name in source.classes])
        write_chosen(folder / "labelled", listed, entries, written["train"][labelled])
        # Without a range or a quality there is no key, as in the stores of earlier versions.
        write_json(folder / "store.json", {key: value for key, value in asdict(info).items() if value is not None})
        write_json(
            folder / "report.json",
            {
                "source": {"name": settings.source, **_texts(asdict(source.settings))},
                "seed": seed,
                "protocol": protocol,
                "splits": {split: _counts(source, written[split]) for split in SPLITS},
                "labelled": _counts(source, written["train"][labelled]),
                "broken": [{"file": valid_text(entries[i].name), "reason": broken[i]} for i in sorted(broken)],
                "unreadable": [{"folder": valid_text(name), "reason": why} for name, why in source.unreadable.items()],
                "ignored": _texts(source.ignored),
                "findings": totals.findings.as_json(),
                "duplicates": [[_texts(image) for image in group] for group in duplicates],
            },
        )
    journal.delete()
    return Prepared(
        info,
        len(source.classes),
        len(labelled),
        len(broken),
        len(source.unreadable),
        sum(source.ignored.values()),
        tuple(findings),
    )


def _check_classes(
    classes: Sequence[str], drawn: NDArray[np.int64], decoded: NDArray[np.int64], broken: Mapping[int, str]
) -> None:
    """Raise UserError for a class of which training images were drawn and none could be decoded."""
    lost = sorted(set(drawn.tolist()) - set(decoded.tolist()) - {UNKNOWN})
    if lost:
        count, reason = int((drawn == lost[0]).sum()), Counter(broken.values()).most_common(1)[0][0]
        others = f", and {len(lost) - 1} more classes are lost" if len(lost) > 1 else ""
        raise UserError(
            f"prepare: none of the {count} training images of {classes[lost[0]]!r} could be decoded ({reason}){others};"
            " repair or convert them, or leave the class out"
        )


def _commonest(reasons: Iterable[str]) -> Iterator[str]:
    """Yield a line for each of the three commonest reasons why images are broken."""
    for reason, count in Counter(reasons).most_common(3):
        yield f"{count:,} broken: {reason}"


def _counts(source: ImageSource, index: NDArray[np.int64]) -> dict[str, Any]:
    """Count the images of a split: all, those without a label, and those of each class."""
    count = Counter(labels_of(source.entries, index).tolist())
    return {
        "images": len(index),
        "without_label": count[UNKNOWN],
        "classes": {valid_text(name): count[label] for label, name in enumerate(source.classes)},
    }


def _texts(block: Mapping[str, Any]) -> dict[str, Any]:
    """Apply `valid_text` to the keys and the text values of a mapping."""
    return {valid_text(key): valid_text(value) if isinstance(value, str) else value for key, value in block.items()}
