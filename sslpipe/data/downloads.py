"""Files of published data sets: there and whole, fetched where that is asked for, or one line that says what to do."""

import hashlib
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

from numpy.exceptions import VisibleDeprecationWarning

from sslpipe.data.decode import check_plain
from sslpipe.io.console import info
from sslpipe.io.errors import UserError

TIMEOUT = 60.0
"""Seconds without an answer after which a connection counts as none (own choice)."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file in the net."""

    url: str
    filename: str
    """Its name in the folder it is fetched into."""
    md5: str
    size: str
    """For a person: 170 MB."""
    unpack: bool
    """An archive, whose files are the data set's."""

    @property
    def host(self) -> str:
        """Whom it is fetched from."""
        return urlparse(self.url).hostname or self.url


def ensure(root: Path, files: Mapping[str, str | None], source: Download, *, where: str, fetch: bool) -> None:
    """See to it that the files of a data set lie in the folder `root` and are the published ones.

    files: name below `root` → md5, None where none is published. where: the data set's block in params.yaml.
    fetch: download what is missing or wrong; an archive that lies in `root` already is only unpacked.
    Raises UserError for a file that is missing or another than the published one, without a connection, or where
    `root` cannot be written.
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
    except RuntimeError:  # what torchvision raises when the checksum of what it has fetched is wrong
        raise UserError(
            f"{where}.download: {root / source.filename}: what {source.host} sent is not the published file (md5 "
            f"{source.md5} expected); try again, or fetch {source.url} elsewhere"
        ) from None
    except OSError as error:
        raise UserError(f"{where}.root: {root} cannot be written: {_reason(error)}") from None
    if fault := _fault(root, files):
        raise UserError(f"{where}.root: {fault}, though {source.filename} was just unpacked there")


def read_verified(path: Path, md5: str) -> bytes:
    """The content of a file, which may be unpickled: it is the published one. UserError where it is another."""
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"{path}: not the published file: its md5 is not {md5}")
    return content


@contextmanager
def old_pickles() -> Iterator[None]:
    """Arrays that numpy wrote long ago may be unpickled without a warning: numpy 2.4.0 to 2.4.4 give one."""
    with warnings.catch_warnings(action="ignore", category=VisibleDeprecationWarning):
        yield


def _fault(root: Path, files: Mapping[str, str | None]) -> str | None:
    """What is wrong with the first file that is missing or not the published one."""
    for name, md5 in files.items():
        path = root / name
        try:
            check_plain(path)
            with path.open("rb") as file:
                found = (
                    hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() if md5 else None
                )
        except FileNotFoundError:
            return f"{name} is not in {root}" if root.is_dir() else f"{root}, to hold {name}, is not there"
        except OSError as error:
            return f"{path} cannot be read: {_reason(error)}"
        if found != md5:
            return f"{path} is cut off or changed: md5 {found} found, expected {md5}"
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
        error.close()  # it holds the connection
        return f"it answered {error.code} {error.reason}"
    inner = error.reason if isinstance(error, URLError) else error
    text = (isinstance(inner, OSError) and inner.strerror) or str(inner) or type(inner).__name__
    return " ".join(text.split())
