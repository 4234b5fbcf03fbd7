"""Files of stages: written atomically, and read with errors that name the file."""

import csv
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.io.errors import UserError
from sslpipe.io.locks import held, lock
from sslpipe.io.stages import LABELLED_STAGES, STAGES

DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EXDEV, errno.EBUSY),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ESTALE),
}
"""Errors of the file system: no space, no permission, and another process that moves or deletes folders."""
PARTIAL = re.compile(r"\.(.+)\.(partial|lock|replaced)")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert errors of the file system (no space, no permission) to a UserError that names the path."""
    try:
        yield
    except OSError as error:
        # numpy raises an OSError without an errno if not all bytes are written.
        if error.errno in DISK_ERRORS or (error.errno is None and "written" in str(error)):
            reason = error.strerror or "no space left on device"
            final = _final(path)
            file = _final(Path(error.filename)) if isinstance(error.filename, str) else final
            folder, found = final.absolute().parent, file.absolute()
            if not (found.is_relative_to(folder) or folder.is_relative_to(found)):  # such as an input
                raise UserError(f"{file}: {reason}") from error
            where = file if file.is_relative_to(final) else final
            raise UserError(f"{where}: cannot be written: {reason}") from error
        raise


def _final(path: Path) -> Path:
    """Return the path that a file in a partial folder will have."""
    return Path(*(found[1] if (found := PARTIAL.fullmatch(part)) else part for part in path.parts))


def partial_folder(path: Path) -> Path:
    """Return the folder in which `atomic_folder` yields the outputs that will be in `path`."""
    return path.parent / f".{path.name}.partial"


@contextmanager
def atomic_folder(path: Path, *, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Yield a new folder for the outputs of a stage, which replaces `path` when all of them are written.

    After an error `path` is unchanged, and the new folder is deleted; what a killed process left is deleted by the next
    one. keep: whether to keep the unfinished folder instead; the next call then yields it as it is. Raises UserError if
    another process writes to `path`, and if `path` is a file.
    """
    partial, replaced = partial_folder(path), path.parent / f".{path.name}.replaced"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: cannot be written: it is a file, expected a folder")
        with lock(path):
            _clear(path, partial, replaced, keep)
            try:
                partial.mkdir(exist_ok=keep())
                yield partial
                if path.exists():
                    path.rename(replaced)
                partial.rename(path)
            except BaseException:
                _clear(path, partial, replaced, keep)
                raise
            shutil.rmtree(replaced, ignore_errors=True)


def _clear(path: Path, partial: Path, replaced: Path, keep: Callable[[], bool]) -> None:
    """Delete what an unfinished run left beside `path`; `path` itself comes back if it was moved away."""
    if replaced.exists() and not path.exists():
        with suppress(OSError):
            replaced.rename(path)
    for folder in (replaced,) if keep() else (partial, replaced):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield the path of a new file, which replaces `path` at the end; after an error `path` is unchanged.

    The new file is locked: raises UserError if another process writes to `path`.
    """
    partial = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(partial, of=path):
            try:
                yield partial
                partial.replace(path)
            except BaseException:
                with suppress(OSError):
                    partial.unlink()
                raise


@contextmanager
def files_together(folder: Path, texts: Mapping[str, str]) -> Iterator[None]:
    """Write several files of a folder, name → text; after an error, in the block as well, the folder is as before."""
    before: dict[Path, bytes | None] = {}
    try:
        with ExitStack() as stack:
            for path, text in ((folder / name, text) for name, text in texts.items()):
                partial = stack.enter_context(atomic_file(path))
                before[path] = path.read_bytes() if path.exists() else None
                with disk_errors(path):
                    partial.write_bytes(text.encode())
        yield
    except BaseException:
        for path, content in before.items():
            with suppress(OSError, UserError):
                if content is None:
                    path.unlink()
                elif path.read_bytes() != content:
                    write_bytes(path, content)
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


def append_bytes(path: Path, data: bytes, *, size: int) -> None:
    """Append to a file of `size` bytes with one write; a file that is missing or has another size is a disk error."""
    with disk_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(descriptor).st_size != size:
                raise OSError(errno.ESTALE, "another program has changed it", str(path))
            if os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)


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
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
