"""The address of the page: a port of 127.0.0.1 and a secret token, which a project keeps from start to start."""

import json
import os
import re
import secrets
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_file, disk_errors
from sslpipe.io.locks import lock

HOST = "127.0.0.1"
FOLDER = Path(".sslpipe/label")
FILE = "address.json"
TOKEN_BYTES = 32
TOKEN = re.compile(r"[\w-]{40,60}", re.ASCII)
OTHERS = 0o077
"""Permissions of other users."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Content of address.json."""

    port: int
    token: str
    images: str
    """Fingerprint of the images that the page shows by their numbers."""

    @property
    def url(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.port}/{self.token}/"


@contextmanager
def claimed(port: int, images: str, folder: Path = FOLDER) -> Iterator[tuple[Address, socket.socket]]:
    """Yield the address of a project's page and the socket that listens there; nobody else serves it during the block.

    port: 0 for that of last time, or any free one if another program has it. images: fingerprint of the images. The
    token is that of last time, so that an open tab goes on, unless the images are others or the file was readable by
    other users. Raises UserError if the project has a page already, its folder cannot be written to, or the port
    cannot be had.
    """
    file = folder / FILE
    with ExitStack() as stack:
        with disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            try:
                stack.enter_context(lock(folder))
            except UserError:
                known = _read(file)
                where = f"at {known.url}" if known else "already"
                raise UserError(f"another 'sslpipe label' serves this project {where}; end that one first") from None
        last = _last(file, images)
        listening = stack.enter_context(_listening(port, last.port if last else 0))
        found = listening.getsockname()[1]
        token = last.token if last and (port or found == last.port) else secrets.token_urlsafe(TOKEN_BYTES)
        address = Address(port=found, token=token, images=images)
        with atomic_file(file) as partial:
            partial.chmod(0o600)
            partial.write_text(json.dumps(asdict(address), indent=2) + "\n")
        yield address, listening


def check_writable(*files: Path) -> None:
    """Raise UserError unless new files can be written beside each of these files, which need not exist."""
    for file in files:
        folder = next(parent for parent in file.absolute().parents if parent.exists())
        with disk_errors(file), TemporaryFile(dir=folder):
            pass


def _last(file: Path, images: str) -> Address | None:
    """Return the address of last time; None without one, and with a line if it is not to be used again."""
    if not file.exists():
        return None
    found = _read(file)
    if found is None:
        why = "is not readable"
    elif os.name == "posix" and (file.stat().st_uid != os.getuid() or stat.S_IMODE(file.stat().st_mode) & OTHERS):
        why = "can be read by other users"
    elif found.images != images:
        why = "is that of other images"
    else:
        return found
    info(f"{file}: {why}; the page has a new address")
    return None


def _read(file: Path) -> Address | None:
    """Return the content of address.json; None if it is missing or something else."""
    try:
        content = json.loads(file.read_bytes())
        found = Address(**content)
        valid = type(found.port) is int and 0 < found.port < 1 << 16 and TOKEN.fullmatch(found.token)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return found if valid else None


def _listening(port: int, last: int) -> socket.socket:
    """Return a socket that listens at 127.0.0.1: at `port`, or for 0 at the port of last time, if free, or any."""
    if port:
        try:
            return _bound(port)
        except OSError as error:
            raise UserError(f"--port: {port} cannot be had: {error.strerror}") from None
    if last:
        try:
            return _bound(last)
        except OSError as error:
            info(f"port {last} of last time: {error.strerror}; the page has a new address, and tabs are to be closed")
    try:
        return _bound(0)
    except OSError as error:
        raise UserError(f"--port: no port of {HOST} can be had: {error.strerror}") from None


def _bound(port: int) -> socket.socket:
    """Return a socket that listens at a port of 127.0.0.1, 0 for a free one."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            # Connections of the last start do not keep the port; two programs cannot listen there all the same.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((HOST, port))
        found.listen()
    except BaseException:
        found.close()
        raise
    return found
