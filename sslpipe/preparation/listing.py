"""A list of a source's files with sizes and times, by which DVC knows whether prepare has to run again.

DVC would hash every image, refuse a folder with a broken link or a name that is not UTF-8, and look for a relative path
in the temporary folders of queued experiments.
"""

import csv
import os
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

from sslpipe.decoding.heic_files import is_left_out
from sslpipe.io.files import write_bytes
from sslpipe.preparation.image_files import find_images

COLUMNS = ("file", "bytes", "modified")


def write_listing(out: Path, root: Path, others: Sequence[Path], *, where: str) -> int:
    """Write the CSV `out` with a row for each image in the folder `root` and for the files `others`; returns its rows.

    Columns: file, relative to `root`; bytes; modified, nanoseconds since 1970. A file without a size, such as a broken
    link, has empty columns, and so has HEIC without pi-heif: once that is installed, prepare has to run again. Raises
    UserError, with the params key `where`, if the folder cannot be read.
    """
    found = find_images(root, where=where, skip=others)
    # The names are the same in each worktree, for a file elsewhere too.
    beside = [
        (root, str(path.relative_to(root))) if root in path.parents else (path.parent, path.name) for path in others
    ]
    rows = [*_rows(root, found.images), *(row for folder, name in beside for row in _rows(folder, [name]))]
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_bytes(out, text.getvalue().encode("utf-8", "backslashreplace"))
    return len(rows)


def _rows(folder: Path, names: Iterable[str]) -> Iterable[tuple[str, int | str, int | str]]:
    for name in names:
        if is_left_out(name):
            yield name, "", ""
            continue
        try:
            status = os.stat(folder / name)
            yield name, status.st_size, status.st_mtime_ns
        except OSError:
            yield name, "", ""
