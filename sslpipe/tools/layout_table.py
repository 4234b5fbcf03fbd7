"""What `init` prints about a folder: the layout that was recognised, its parts and classes, and what was left out."""

from collections import Counter

from sslpipe.data.store import UNKNOWN
from sslpipe.io.console import info
from sslpipe.io.text import listed, shown
from sslpipe.metrics.table import print_cells
from sslpipe.sources.folder import Source

MEANINGS = {
    "flat": "sub-folders mean nothing",
    "classes": "each sub-folder is a class",
    "parts": "sub-folders are parts, such as train/ and test/",
}
MOST_CLASSES = 20
"""Maximum number of classes in the table (own choice: a page)."""
PARTS = ("train", "held_out", "test")


def print_layout(source: Source) -> None:
    """Print how a folder was read; `--layout` and `--labels` overrule it."""
    layout = source.layout
    info(f"{source.root / layout.base}: {MEANINGS[layout.name]}")
    info(f"(layout {layout.name}; --layout overrules it)")
    parts = [part for part in PARTS if any(entry.part == part for entry in source.entries)]
    if layout.folders:
        _print_parts(source, parts)
    if source.classes:
        _print_classes(source, parts)
    for note in source.notes:
        info(f"- {note}")


def _print_parts(source: Source, parts: list[str]) -> None:
    rows = []
    for part in parts:
        entries = [entry for entry in source.entries if entry.part == part]
        folders = listed(f"{name}/" for name, folder in source.layout.folders.items() if folder.part == part)
        labelled = sum(entry.label != UNKNOWN for entry in entries)
        rows.append([f"{part}: {folders}", f"{len(entries):,}", f"{labelled:,}"])
    print_cells("", ["part: folder", "images", "labelled"], rows)


def _print_classes(source: Source, parts: list[str]) -> None:
    """Print the number of images of each class, in each part."""
    count: Counter[tuple[int, str | None]] = Counter((entry.label, entry.part) for entry in source.entries)
    rows = []
    for label, name in enumerate(source.classes[:MOST_CLASSES]):
        title = f"{source.layout.base}{name}/" if source.layout.name == "classes" else name
        rows.append([shown(title), *(f"{count[label, part]:,}" for part in parts or (None,))])
    print_cells("", ["class", *(parts or ["images"])], rows)
    if len(source.classes) > MOST_CLASSES:
        info(f"and {len(source.classes) - MOST_CLASSES:,} more classes")
