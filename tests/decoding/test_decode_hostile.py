import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sslpipe.decoding.decode import Decoder, decode
from sslpipe.decoding.entries import Entry
from sslpipe.decoding.image_formats import BrokenImageError
from sslpipe.decoding.pixels import Form

sys.path.insert(0, str(Path(__file__).parents[1]))
import hostile


class Files:
    """A source of files alone."""

    settings = None
    classes = ()
    ignored: dict[str, int] = {}  # noqa: RUF012
    unreadable: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, folder, names):
        self.folder = folder
        self.entries = [Entry(name) for name in names]

    def load(self, index):
        return self.folder / self.entries[index].name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "files"
    hostile.fill(folder)
    return folder


@pytest.mark.parametrize("name", hostile.BROKEN, ids=lambda name: ascii(name)[:40])
def test_what_is_no_picture_has_a_reason_of_one_line_soon(folder, name):
    began = time.monotonic()
    with pytest.raises(BrokenImageError) as raised, warnings.catch_warnings(action="error"):
        decode(folder / name, size=8, channels=3)
    assert time.monotonic() - began < 5
    reason = str(raised.value)
    assert hostile.BROKEN[name] in reason
    assert reason
    assert "\n" not in reason
    assert folder.name not in reason


@pytest.mark.parametrize("name", [name for name in hostile.GOOD if name != "large.png"])
def test_what_is_unusual_is_the_same_picture(folder, name):
    found = decode(folder / name, size=16, channels=1)[0].astype(int)
    assert np.abs(found - hostile.GREY).max() <= 6


def test_an_image_that_pillow_warns_of_is_decoded(folder):
    with warnings.catch_warnings(action="error"):
        assert decode(folder / "large.png", size=4, channels=3).max() == 0


@pytest.mark.skipif(hostile.reads_everything(), reason="rights do not hold here")
@pytest.mark.parametrize("name", hostile.CLOSED)
def test_what_may_not_be_read(folder, name):
    with pytest.raises(BrokenImageError, match="Permission denied"):
        decode(folder / name, size=8, channels=3)


def test_other_processes_do_not_wait_either(folder, monkeypatch):
    monkeypatch.setattr("sslpipe.decoding.decode.CHUNK_IMAGES", 5)
    names = [*hostile.BROKEN, "16-bit.png"]
    with Decoder(Files(folder, names), Form(size=8, channels=1), workers=2) as decoder:
        chunks = list(decoder.decode(np.arange(len(names))))
    assert [names[i] for chunk in chunks for i in chunk.broken] == list(hostile.BROKEN)
    assert [len(chunk.images) for chunk in chunks][-1] == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "F", "I"])
@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), strip=st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_strips_change_no_pixel(tmp_path_factory, mode, shape, strip):
    rng = np.random.default_rng(shape)
    if mode in ("I;16", "I"):
        image = Image.fromarray(rng.integers(0, 65536, shape).astype(np.uint16 if mode == "I;16" else np.int32))
    elif mode == "F":
        image = Image.fromarray(rng.uniform(0, 255, shape).astype(np.float32))
    else:
        image = Image.fromarray(rng.integers(0, 256, (*shape, 4), dtype=np.uint8), "RGBA").convert(mode)
        if mode == "P":
            image.info["transparency"] = 3
    path = tmp_path_factory.mktemp("image") / ("image.tiff" if mode in "IF" else "image.png")
    image.save(path)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for pixels in (strip, 1 << 22):
            patch.setattr("sslpipe.decoding.deep_image.STRIP_PIXELS", pixels)
            found.append([decode(path, size=max(shape), channels=channels) for channels in (1, 3)])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), size=st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_grey_made_colour_after_resizing_is_what_it_was_before(shape, size):
    grey = np.random.default_rng(shape).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(
        decode(grey, size=size, channels=3), decode(np.stack([grey] * 3, axis=-1), size=size, channels=3)
    )
