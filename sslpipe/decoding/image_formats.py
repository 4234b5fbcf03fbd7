"""Which files are images, and how Pillow is called: without its warnings and without its limit of pixels."""

import errno
import logging
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import Image

NOT_DECODED = {"EPS", "MPEG", "BUFR", "GRIB", "HDF5", "WMF"}
"""Formats that Pillow recognises but does not decode without other programs."""
RAW_SUFFIXES = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
}
"""Suffixes of raw camera files. Pillow and tifffile read the thumbnail of some of them, so they are not read."""
HEIC_SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif"}
"""Suffixes of HEIC, which is read by heic_files.py."""
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
"""Words in the first bytes of HEIC; mif1 and msf1, the only other ones of some files, stand for AVIF too."""
UNREAD_SUFFIXES = {".avifs", ".jxl", ".svg", ".svgz"}
"""Suffixes of other pictures that Pillow does not read; they count as broken images, so that each is reported."""
RAW = "a raw camera file, of which only the thumbnail could be read; convert it to TIFF or JPEG"
DNG_VERSION = 50706
"""TIFF tag that only raw camera files of the format DNG have."""
OTHER_CONTENTS = {
    rb"\Z": "an empty file",
    rb"\0{256}": "a file of zeros",
    rb"version https://git-lfs": "a pointer of Git LFS ('git lfs pull' fetches the file)",
    rb"....ftyp(hei|hev|mif1|msf1)": "HEIC",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL (convert it to JPEG or PNG)",
    rb"(\xef\xbb\xbf)?\s*<": "HTML, XML or SVG",
    rb"PK\x03\x04": "a workbook or a ZIP file",
    rb"\xd0\xcf\x11\xe0": "a workbook",
    rb"\x1f\x8b": "a compressed file",
    rb"%PDF": "a PDF file",
}
"""Pattern of the first bytes of what is found in place of an image or a table → what it is."""
FIRST_BYTES = 256
"""Number of bytes by which such files are recognised."""
NOT_A_FILE = {
    stat.S_IFDIR: "Is a directory",
    stat.S_IFIFO: "Is a pipe",
    stat.S_IFSOCK: "Is a socket",
    stat.S_IFCHR: "Is a device",
    stat.S_IFBLK: "Is a device",
}
"""Error texts for directory entries that are not regular files."""


class BrokenImageError(Exception):
    """The reason why an image cannot be decoded."""


@cache
def image_formats() -> tuple[str, ...]:
    """Return the formats that Pillow decodes, the common ones first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files, in lower case."""
    formats = {*image_formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def has_image_suffix(name: str) -> bool:
    """Return whether a file is an image by its name, even if it is of a kind that is not read."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in image_suffixes() or suffix in HEIC_SUFFIXES | RAW_SUFFIXES | UNREAD_SUFFIXES


def check_read(name: str) -> None:
    """Raise BrokenImageError for a file that is not read, by its name."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in RAW_SUFFIXES:
        raise BrokenImageError(RAW)
    if suffix in UNREAD_SUFFIXES and suffix not in image_suffixes():
        raise BrokenImageError(f"{suffix} files are not read; convert it to JPEG or PNG")


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its suffix or else by its first bytes."""
    if has_image_suffix(path.name):
        return True
    try:
        with quiet_pillow(), Image.open(path, formats=image_formats()):
            return True
    except Exception:  # Pillow raises many types of exceptions for malformed headers.
        try:
            with path.open("rb") as file:
                return is_heic(file.read(FIRST_BYTES))
        except OSError:
            return False


def is_heic(head: bytes) -> bool:
    """Return whether a file that Pillow does not open is HEIC, by its first bytes."""
    if head[4:8] != b"ftyp":
        return False
    end = min(len(head), int.from_bytes(head[:4]))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    return bool(brands & HEIC_BRANDS) or (head[8:12] in (b"mif1", b"msf1") and not brands & {b"avif", b"avis"})


def is_raw(image: Image.Image) -> bool:
    """Return whether an opened file is a raw camera file by its tags."""
    return DNG_VERSION in getattr(image, "tag_v2", ())


def check_plain(path: Path) -> None:
    """Raise OSError if the path is not a regular file: reading a pipe may block, and a device may have no end."""
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, NOT_A_FILE.get(kind, "Is no file"), str(path))


def other_content(head: bytes) -> str:
    """Return what a file is that is neither an image nor a table, by its first bytes; "" if it is not known."""
    return next((what for pattern, what in OTHER_CONTENTS.items() if re.match(pattern, head, re.DOTALL)), "")


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Suppress the warnings and log lines of Pillow and tifffile, which name no file, and Pillow's limit of pixels.

    The limit is `prepare.max_pixels`, which `read_pixels` checks.
    """
    loggers = [logging.getLogger(name) for name in ("PIL", "tifffile")]
    levels = [logger.level for logger in loggers]
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def quiet_libtiff() -> Iterator[None]:
    """Redirect the standard error of the process to nowhere: libtiff, in C, prints its errors there."""
    try:
        saved = os.dup(2)
    except OSError:  # closed
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
