"""Files of published data sets: verified by checksum, and downloaded on request."""

import hashlib
import socket
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

from numpy.exceptions import VisibleDeprecationWarning

from sslpipe.decoding.image_formats import check_plain
from sslpipe.io.console import info
from sslpipe.io.errors import UserError

TIMEOUT = 60.0
"""Timeout of a connection, in seconds (own choice)."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """A downloadable file."""

    url: str
    filename: str
    """Name of the file in the folder that it is downloaded to."""
    md5: str
    size: str
    """Size for messages, such as 170 MB."""
    unpack: bool
    """Whether the file is an archive that has to be unpacked."""

    @property
    def host(self) -> str:
        """Host of the URL."""
        return urlparse(self.url).hostname or self.url


def ensure(root: Path, files: Mapping[str, str | None], source: Download, *, where: str, fetch: bool) -> None:
    """Ensure that the folder `root` has the files of a data set, as published.

    files: path relative to `root` → md5, or None if none is published. where: the data set's block in params.yaml.
    fetch: whether to download missing and changed files; an archive that is in `root` already is only unpacked.
    Raises UserError if a file is missing or differs from the published one, if there is no connection, or if `root`
    cannot be written.
    """
    fault = _fault(root, files)
    if fault is None:
        return
    if not fetch:
        raise UserError(f"{where}.root: {fault}; {where}.download: true fetches {source.size} from {source.host}")
    try:
        _fetch(root, source)
    except (URLError, HTTPException, ConnectionError, TimeoutError, SSLError, RecursionError) as error:
        then = f" ({where}.download: true then unpacks it)" if source.unpack else ""
        raise UserError(
            f"{where}.download: no connection to {source.host} ({_reason(error)}); fetch {source.url} elsewhere and "
            f"put it in {root}{then}"
        ) from None
    except RuntimeError:  # raised by torchvision if the checksum of the downloaded file is wrong
        raise UserError(
            f"{where}.download: {root / source.filename}: the file from {source.host} is not the published one (md5 "
            f"{source.md5} expected); try again, or fetch {source.url} elsewhere"
        ) from None
    except OSError as error:
        raise UserError(f"{where}.root: {root} cannot be written: {_reason(error)}") from None
    if fault := _fault(root, files):
        raise UserError(f"{where}.root: {fault}, even after {source.filename} was unpacked")


def read_verified(path: Path, md5: str) -> bytes:
    """Return the content of a file that is safe to unpickle: raises UserError unless it is the published file."""
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"{path}: not the published file: its md5 is not {md5}")
    return content


def old_pickles() -> AbstractContextManager[object]:
    """Return a context without a warning of numpy 2.4.0 to 2.4.4 about pickled arrays of old versions of numpy."""
    return warnings.catch_warnings(action="ignore", category=VisibleDeprecationWarning)


def _fault(root: Path, files: Mapping[str, str | None]) -> str | None:
    """Describe the first file that is missing or not the published one; None if there is none."""
    for name, md5 in files.items():
        path = root / name
        try:
            check_plain(path)
            with path.open("rb") as file:
                found = (
                    hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() if md5 else None
                )
        except FileNotFoundError:
            return f"{root / name} does not exist" if root.is_dir() else f"{root} does not exist, expected {name} in it"
        except OSError as error:
            return f"{path} cannot be read: {_reason(error)}"
        if found != md5:
            return f"{path} is truncated or changed: md5 {found} found, expected {md5}"
    return None


def _fetch(root: Path, source: Download) -> None:
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive, download_url

    if not check_integrity(root / source.filename, source.md5):
        info(f"fetching {source.url} ({source.size}) into {root}")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        (download_and_extract_archive if source.unpack else download_url)(
            source.url, root, filename=source.filename, md5=source.md5
        )
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()  # closes the connection
        return f"HTTP status {error.code} {error.reason}"
    inner = error.reason if isinstance(error, URLError) else error
    text = (isinstance(inner, OSError) and inner.strerror) or str(inner) or type(inner).__name__
    return " ".join(text.split())
