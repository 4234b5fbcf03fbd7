"""Locks that end with the process that holds them, so that two processes do not write the same outputs at once."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sslpipe.io.errors import UserError

if sys.platform != "win32":
    import fcntl

HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
"""Errors of a lock that another process holds; others come from file systems without locks."""
DIGITS = 20
"""Length of the number in a lock's file, so that it covers an earlier one."""


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock of the output `path`: the file .NAME.lock beside it, with the number of this process.

    A process that is killed leaves the file but not the lock, which the kernel releases. Without locks (Windows, some
    network file systems) nothing is locked. Raises UserError if another process has the lock, and OSError if the file
    cannot be written.
    """
    file = path.parent / f".{path.name}.lock"
    with held(file, of=path) as descriptor:
        if descriptor is None:
            yield
            return
        try:
            os.write(descriptor, str(os.getpid()).ljust(DIGITS).encode())
            yield
        finally:
            # Deleted while the lock is held, so that nobody else's file is deleted.
            with suppress(OSError):
                file.unlink()


@contextmanager
def held(file: Path, *, of: Path) -> Iterator[int | None]:
    """Open `file`, created if it does not exist, and lock it; yield its descriptor, or None without locks.

    of: what the lock protects, for the error. Raises UserError if another process has the lock.
    """
    if sys.platform == "win32":
        yield None
        return
    descriptor = _locked(file, of)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(file: Path, of: Path) -> int:
    """Return the descriptor of a locked file."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, of)
            # Whoever held the lock may have renamed or deleted the file since it was opened here.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, of: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            number = os.pread(descriptor, DIGITS, 0).decode("ascii", "replace").strip()
            who = f"another sslpipe, process {number}," if number.isdigit() else "another sslpipe"
            raise UserError(f"{of}: {who} is writing it") from None
