"""Random folders on the disk, with all that stands beside images: read as they were meant, or refused with a name."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sslpipe.io.errors import UserError
from sslpipe.preparation.image_files import SYSTEM_FOLDERS
from sslpipe.preparation.splits import draw_splits
from sslpipe.preparation.store_writer import Settings as Prepare
from sslpipe.preparation.store_writer import write_store
from sslpipe.sources.folder import Settings, Source

sys.path.insert(0, str(Path(__file__).parents[1]))
from folders import folders

BESIDE = ["empty", "links", "system", "notes", "hidden", "broken", "pipe"]


def possible(names):
    """Whether all names are those of visible files: hidden ones, and folders of systems, are passed over."""
    parts = {part for name in names for part in name.split("/")}
    return all(not part.startswith(".") and part.lower() not in SYSTEM_FOLDERS for part in parts) and all(
        len(os.fsencode(part)) < 200 for part in parts
    )


def write(root, names, beside):
    """Write the images, and beside them what means nothing."""
    for place, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), place).save(path)
    inner = (root / names[0]).parent
    if "empty" in beside:
        (inner.parent / "zz empty" / "deeper").mkdir(parents=True)
        (root / "zz labels").mkdir()
    if "links" in beside:
        (inner / "aa up").symlink_to(root)
        if inner != root:
            (inner.parent / "aa twice").symlink_to(inner)
    if "system" in beside:
        for name in ("__MACOSX", "@eaDir"):
            (inner / name).mkdir()
            Image.new("L", (8, 8)).save(inner / name / "1.png")
    if "notes" in beside:
        (inner / "notes.txt").write_text("cats")
    if "hidden" in beside:
        (root / ".cache").mkdir()
        Image.new("L", (8, 8)).save(root / ".cache" / "1.png")
    if "broken" in beside:
        (inner / "broken").symlink_to("nowhere")
        (inner / "loop").symlink_to("loop")
    if "pipe" in beside:
        os.mkfifo(inner / "pipe")


@settings(max_examples=60, deadline=None)
@given(folders().filter(lambda folder: possible(folder[0])), st.lists(st.sampled_from(BESIDE), unique=True))
def test_any_folder_is_read_as_it_was_meant_or_refused_and_what_is_read_is_prepared(folder, beside):
    expected, doubtful = folder
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "photos"
        write(root, list(expected), beside)
        if doubtful:
            with pytest.raises(UserError, match=r"^[^\n]+$"):
                Source(Settings(path=str(root)))
            return
        source = Source(Settings(path=str(root)))
        if {part for part, _ in expected.values()} == {"train"}:
            expected = {name: (None, label) for name, (_, label) in expected.items()}
        found = {
            entry.name: (entry.part, source.classes[entry.label] if entry.label >= 0 else None)
            for entry in source.entries
        }
        assert found == expected
        splits = draw_splits(source.entries, test=0.2, held_out=0.2, protocol="split", seed=0)
        if len(splits["train"]):
            chosen = Prepare(source="folder", size=8, test=0.2, held_out=0.2)
            prepared = write_store(
                Path(place) / "store", source, chosen, protocol="split", seed=0, workers=1, strict=True
            )
            assert [prepared.info.count(split) for split in splits] == [len(index) for index in splits.values()]
