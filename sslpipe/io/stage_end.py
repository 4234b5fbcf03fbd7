"""What a stage prints at its end: what it wrote, what it learned, and the next command."""

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sslpipe.io.console import info
from sslpipe.io.own_programs import repro_command
from sslpipe.io.stages import LABELLED_STAGES, key_of
from sslpipe.io.text import counted, shown

ENTRIES = 3
"""Largest files and folders of an output that are named (own choice: they fit into 80 characters)."""
BY_DVC = "DVC_STAGE"
"""Environment variable that DVC sets for the command of a stage."""
PIPELINE = Path("dvc.yaml")
UNITS = ("B", "kB", "MB", "GB", "TB")


def print_end(stage: str, out: Path, learned: str, tree: Mapping[str, Any], *, method: str | None = None) -> None:
    """Print the end of a stage: two lines, and the next command unless DVC runs the stage.

    out: its output, a folder or a file. learned: a line of what it has found. tree: the content of params.yaml. method:
    of semisup and finetune, which run once for each method.
    """
    info(written(out))
    info(learned)
    if BY_DVC not in os.environ and (command := next_command(stage, method, tree)):
        info(f"next: {command}, or {repro_command()}")


def written(out: Path) -> str:
    """Return what is in an output, a folder or a file: the largest entries with their sizes, or rows of a table."""
    if not out.is_dir():
        return f"{shown(str(out))}: {size_text(_size(out))}"
    entries = sorted(out.iterdir(), key=lambda entry: (-_size(entry), entry.name))
    parts = [_entry_text(entry) for entry in entries[:ENTRIES]]
    if len(entries) > ENTRIES:
        parts[-1] += f" and {len(entries) - ENTRIES} more"
    return f"{shown(str(out))}: {', '.join(parts) or 'empty'}"


def _entry_text(entry: Path) -> str:
    if entry.is_dir():
        return f"{shown(entry.name)}/ {size_text(_size(entry))}"
    if entry.suffix == ".csv":
        with entry.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = max(sum(1 for _ in csv.reader(file)) - 1, 0)
        return f"{shown(entry.name)} {counted(rows, 'row')}"
    return f"{shown(entry.name)} {size_text(_size(entry))}"


def _size(path: Path) -> int:
    """Return the number of bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def size_text(size: float) -> str:
    """Return a number of bytes in few characters, such as 2.4 MB."""
    unit = 0
    while size >= 999.5 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {UNITS[unit]}" if unit and size < 9.95 else f"{size:.0f} {UNITS[unit]}"


def next_command(stage: str, method: str | None, tree: Mapping[str, Any]) -> str | None:
    """Return the command that follows a stage in dvc.yaml; None for the last one, and where that file says nothing.

    method: as in `print_end`. tree: the content of params.yaml, whose `<stage>.methods` the file refers to.
    """
    try:
        stages = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"]
        commands = list(_commands(stages, tree))
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None  # DVC reports what is wrong with it
    own = f"{stage}@{method}" if method else stage
    names = [name for name, _ in commands]
    if own not in names or names[-1] == own:
        return None
    return commands[names.index(own) + 1][1]


def _commands(stages: Mapping[str, Any], tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name, <stage>@<method> for one of several methods, and the command of each run of a stage."""
    for name, stage in stages.items():
        if name not in LABELLED_STAGES:
            yield name, stage["cmd"]
            continue
        for method in (tree.get(key_of(name)) or {}).get("methods") or {}:
            yield f"{name}@{method}", stage["do"]["cmd"].replace("${key}", method)
