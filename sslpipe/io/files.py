"""Files of stages: written atomically, and read with errors that name the file."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.io.errors import UserError
from sslpipe.io.stages import LABELLED_STAGES, STAGES

DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert errors of the file system (no space, no permission) to a UserError that names the path."""
    try:
        yield
    except OSError as error:
        # numpy raises an OSError without an errno if not all bytes are written.
        if error.errno in DISK_ERRORS or (error.errno is None and "written" in str(error)):
            reason = error.strerror or "no space left on device"
            raise UserError(f"{path}: cannot be written: {reason}") from error
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder for the outputs of a stage, which replaces `path` when all of them are written.

    After an error `path` is unchanged, and the new folder is deleted.
    """
    partial = path.parent / f".{path.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    with disk_errors(path):
        try:
            yield partial
            replaced = path.parent / f".{path.name}.replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            if path.exists():
                path.rename(replaced)
            partial.rename(path)
            shutil.rmtree(replaced, ignore_errors=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield the path of a new file, which replaces `path` at the end; after an error `path` is unchanged."""
    partial = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def project_path(path: str) -> Path:
    """Return a path of params.yaml: "~" is the home folder, and a relative path begins in the project's folder.

    That is the working folder. `dvc exp run --temp` and `--queue` work in a temporary copy of it, from which the folder
    of the images cannot be reached; there a path that does not exist begins in DVC_ROOT, the project itself.
    """
    found = os.path.expanduser(path)
    there = os.path.join(os.environ.get("DVC_ROOT", "."), found)
    return Path(there if os.path.exists(there) and not os.path.exists(found) else found)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_file(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; keys keep their order."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises UserError if it is missing or truncated."""
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); run the stage that writes it again") from None


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array to an .npy file."""
    with disk_errors(path), path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """Return the array of an .npy file, memory-mapped if `mapped`. Raises UserError if it is missing or truncated."""
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise _missing(path) from None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: not readable as an array ({error}); run the stage that writes it again") from None


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a CSV file; the columns are all keys in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with disk_errors(path), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _missing(path: Path) -> UserError:
    """Return the error for a missing file, with the command that writes it if the path is runs/<stage>/..."""
    parts = path.parts[path.parts.index("runs") + 1 :] if "runs" in path.parts[:-2] else ("",)
    command = f"sslpipe {parts[0]}" if parts[0] in STAGES else ""
    if parts[0] in LABELLED_STAGES:
        command = f"sslpipe {parts[0]} --method {parts[1]}" if len(parts) > 2 else ""
    return UserError(f"{path}: no such file" + (f"; run '{command}' or 'dvc repro' first" if command else ""))


def sha256(path: Path) -> str:
    """Return the SHA-256 hash of a file, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise _missing(path) from None
