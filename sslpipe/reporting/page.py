"""The pages of the report (a placeholder: the files of data alone)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslpipe.io.files import write_bytes


def write_page(folder: Path, summary: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Write index.html and data/*.js to a folder."""
    (folder / "data").mkdir()
    for name, value in {"summary": summary, **parts}.items():
        text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        write_bytes(folder / "data" / f"{name}.js", f'sslpipeReport("{name}", {text});\n'.encode())
    write_bytes(folder / "index.html", b"<!doctype html>\n")


def write_single(
    path: Path, summary: Mapping[str, Any], parts: Mapping[str, Any], pictures: Mapping[int, bytes]
) -> None:
    """Write one file with the groups."""
    text = json.dumps([summary, parts, {i: len(data) for i, data in pictures.items()}], allow_nan=False)
    write_bytes(path, text.encode())
