"""What prepare says of the images: the closing lines, the report and the range of values in the store."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sslpipe.data.store import Store
from sslpipe.decoding.deep_image import DeepValues, plain_number, proposed_range
from sslpipe.decoding.image_info import GREY_BELOW, is_colour
from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.preparation.store_writer import Settings, write_store
from sslpipe.sources import folder

sys.path.insert(0, str(Path(__file__).parents[1]))
import pixel_files as files

RNG = np.random.default_rng(3)


def prepared(root, *, workers=1, **settings):
    """The closing lines of prepare for a folder, and the report."""
    values = {"size": 6, "channels": 1, "test": 0.25, "held_out": 0.1, **settings}
    source = folder.Source(folder.Settings(path=str(root)))
    settings = parse(Settings, values, where="prepare")
    result = write_store(root.parent / "out", source, settings, protocol="split", seed=0, workers=workers, strict=False)
    return str(result).splitlines(), json.loads((root.parent / "out/report.json").read_text(encoding="utf-8"))


@pytest.fixture
def pictures(tmp_path):
    """20 different grey pictures of two classes."""
    for i in range(20):
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (6, 6), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


def deep(pictures, most, count=20, dtype=np.uint16):
    """Deep images in the place of the others, with values up to `most`."""
    for i in range(count):
        values = RNG.uniform(0, most, (6, 6)).astype(dtype)
        values[0, 0] = most
        path = pictures / "ab"[i % 2] / f"{i}.png"
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), values, photometric="minisblack")


def test_nothing_is_said_of_ordinary_images(pictures):
    lines, report = prepared(pictures)
    assert len(lines) == 1
    assert report["findings"] == {
        "colour": 0, "clipped": 0, "further": 0, "on_black": 0, "deep": 0, "values": None,
    }  # fmt: skip
    assert report["duplicates"] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_colour_that_is_dropped(pictures, workers, monkeypatch):
    monkeypatch.setattr("sslpipe.decoding.decode.CHUNK_IMAGES", 6)
    for i in range(7):
        Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(pictures / "ab"[i % 2] / f"{i}.png")
    lines, report = prepared(pictures, workers=workers)
    assert lines[1:] == ["  7 of 20 images in colour; prepare.channels: 3 keeps it"]
    assert report["findings"]["colour"] == 7
    assert len(prepared(pictures, channels=3)[0]) == 1


def test_no_colour_where_it_is_stored(pictures):
    assert prepared(pictures, channels=3)[0][1:] == [
        "  no image is in colour; prepare.channels: 1 is enough and faster"
    ]


@pytest.mark.parametrize(("difference", "colour"), [(GREY_BELOW - 1, False), (GREY_BELOW, True)])
def test_colour_is_a_difference_of_the_channels_somewhere(difference, colour):
    image = np.full((3, 5, 5), 100, np.uint8)
    image[1, 2, 2] += difference
    assert is_colour(image) is colour


@pytest.mark.parametrize(("most", "range_"), [(4011, "[0, 4095]"), (800, "[0, 1023]"), (16383, "[0, 16383]")])
def test_deep_images_that_are_nearly_black(pictures, most, range_):
    deep(pictures, most)
    lines, report = prepared(pictures)
    assert lines[1:] == [f"  20 images nearly black, at most {most} of 65535; prepare.value_range: {range_}"]
    assert report["findings"]["values"][1] == most
    assert len(prepared(pictures, value_range=json.loads(range_))[0]) == 1


def test_one_bright_image_among_dark_ones_is_a_dark_folder_no_longer(pictures):
    deep(pictures, 4011, 19)
    path = pictures / "b/19.png"
    path.unlink()
    values = np.full((6, 6), 50_000, np.uint16)
    values[0] = 7
    tifffile.imwrite(path.with_suffix(".tif"), values, photometric="minisblack")
    assert len(prepared(pictures)[0]) == 1


def test_values_beyond_the_range_are_clipped_and_counted(pictures):
    deep(pictures, 4011)
    lines, report = prepared(pictures, value_range=[0, 2000])
    assert lines[1:] == ["  20 images with values beyond 0 to 2000, clipped; prepare.value_range: [0, 4095]"]
    assert report["findings"]["clipped"] == 20
    assert report["broken"] == []
    assert Store(pictures.parent / "out").images("train").max() == 255


def test_floats_beyond_one(pictures):
    deep(pictures, 200.0, dtype=np.float32)
    lines, _ = prepared(pictures)
    assert lines[1] == "  20 images with values beyond 0 to 1, clipped; prepare.value_range: [0, 255]"


def test_a_range_that_is_set_already_is_not_proposed(pictures):
    for path, values in zip(sorted((pictures / "a").iterdir()), (np.nan, -3.4e38, np.inf), strict=False):
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), np.array([[0.0, 1.0, values]] * 6, np.float32))
    assert "  3 images with values beyond 0 to 1, clipped" in prepared(pictures)[0]


def test_truncated_files_are_counted_together(pictures):
    for i, path in enumerate(sorted((pictures / "a").iterdir())[:4]):
        noise = RNG.integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path.with_suffix(".jpg"))
        path.with_suffix(".jpg").write_bytes(path.with_suffix(".jpg").read_bytes()[: 2000 + 7 * i])
    assert "  4 broken: image file is truncated" in prepared(pictures)[0]


def test_further_pages_raw_files_and_images_on_black(pictures):
    tifffile.imwrite(pictures / "a/0.tif", RNG.integers(0, 255, (3, 6, 6), dtype=np.uint8), photometric="minisblack")
    (pictures / "a/1.nef").write_bytes(b"raw")
    (pictures / "b/2.DNG").write_bytes(b"raw")
    white = np.zeros((6, 6, 4), np.uint8)
    white[1:4, 2:4] = 255
    Image.fromarray(white, "RGBA").save(pictures / "a/white.png")
    lines, report = prepared(pictures)
    raw = "a raw camera file, of which only the thumbnail could be read; convert it to TIFF or JPEG"
    assert lines[1:] == [
        f"  2 broken: {raw}",
        "  1 file with further pages, frames or channels, not used",
        "  1 transparent image put on black, since white would hide what is drawn",
    ]
    assert {entry["file"]: entry["reason"] for entry in report["broken"]} == {"a/1.nef": raw, "b/2.DNG": raw}


def test_duplicates_across_classes_across_splits_and_twice(pictures):
    lines, report = prepared(pictures)
    at = {
        name: split for split in ("train", "held_out", "test") for name in Store(pictures.parent / "out").files(split)
    }
    train = [name for name, split in at.items() if split == "train"]
    a, b = ([name for name in train if name.startswith(group)] for group in "ab")
    test = next(name for name, split in at.items() if split == "test" and name.startswith("a"))
    for source, copy in ((a[0], b[0]), (a[1], test), (b[1], b[2])):
        (pictures / copy).write_bytes((pictures / source).read_bytes())
    lines, report = prepared(pictures)
    assert lines[1:] == ["  6 images equal to others, in 3 groups, 1 across classes and 1 across splits; delete copies"]
    found = {tuple((image["file"], image["class"], image["split"]) for image in g) for g in report["duplicates"]}
    assert {frozenset(group) for group in found} == {
        frozenset({(a[0], "a", "train"), (b[0], "b", "train")}),
        frozenset({(a[1], "a", "train"), (test, "a", "test")}),
        frozenset({(b[1], "b", "train"), (b[2], "b", "train")}),
    }


def test_images_without_labels_are_not_across_classes(tmp_path):
    for i in range(8):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("L", (6, 6), i // 2).save(tmp_path / f"pictures/{i}.png")
    lines, report = prepared(tmp_path / "pictures", test=0.0, held_out=0.0)
    assert lines[1:] == ["  8 images equal to others, in 4 groups; delete copies"]
    assert {image["class"] for group in report["duplicates"] for image in group} == {None}


def test_lines_fit_a_terminal(pictures):
    deep(pictures, 4011)
    tifffile.imwrite(pictures / "a/0.tif", RNG.integers(0, 255, (3, 6, 6), dtype=np.uint8), photometric="minisblack")
    assert max(map(len, prepared(pictures)[0][1:])) <= 100


def test_the_range_is_part_of_the_store_and_absent_without_one(pictures):
    prepared(pictures)
    path = pictures.parent / "out/store.json"
    assert "value_range" not in json.loads(path.read_text())
    assert Store(path.parent).info.value_range is None
    prepared(pictures, value_range=[-3, 4095])
    assert Store(path.parent).info.value_range == (-3.0, 4095.0)


def test_a_range_changes_no_image_of_8_bits(pictures):
    prepared(pictures)
    before = Store(pictures.parent / "out").info.fingerprint
    prepared(pictures, value_range=[100, 120])
    assert Store(pictures.parent / "out").info.fingerprint == before


@pytest.mark.parametrize("value_range", [[5, 5], [6, 2], [0, float("inf")]])
def test_a_range_without_a_width_is_refused(pictures, value_range):
    with pytest.raises(UserError, match=r"prepare: value_range: .* expected two numbers, the lower one first"):
        prepared(pictures, value_range=value_range)


def test_more_pixels_than_the_setting(pictures):
    Image.new("L", (30, 40), 3).save(pictures / "a/large.png")
    _, report = prepared(pictures, max_pixels=1199)
    reason = "1200 pixels, more than the 1199 of prepare.max_pixels (predict: --max-pixels)"
    assert report["broken"] == [{"file": "a/large.png", "reason": reason}]
    assert prepared(pictures, max_pixels=1200)[1]["broken"] == []


@pytest.mark.parametrize(
    ("low", "high", "white", "unsigned", "expected"),
    [
        (0, 3, 65535, True, (0, 255)),
        (17, 255, 65535, True, (0, 255)),
        (17, 256, 65535, True, (0, 1023)),
        (0, 1023, 65535, True, (0, 1023)),
        (100, 4011, 65535, True, (0, 4095)),
        (100, 16000, 65535, True, (0, 16383)),
        (100, 17000, 65535, True, (0, 65535)),
        (0, 70_000, 65535, True, (0, 70_000)),
        (-1024, 3071, 32767, False, (-1100, 3100)),
        (0.02, 0.97, 1, False, (0, 1)),
        (0.02, 0.3, 1, False, (0.02, 0.3)),
        (0, 201.5, 1, False, (0, 255)),
        (-0.318, 0.222, 1, False, (-0.32, 0.23)),
        (5, 5, 1, False, (0, 255)),
        (-7, -7, 32767, False, (-7, -6.9999999)),
    ],
)
def test_the_proposed_range(low, high, white, unsigned, expected):
    if (low, high) == (5, 5):
        expected = proposed_range(DeepValues(low, high, white, unsigned))
        assert expected[0] <= 5 <= expected[1]
        return
    assert proposed_range(DeepValues(low, high, white, unsigned)) == pytest.approx(expected)


@given(values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5), unsigned=st.booleans())
def test_the_proposed_range_has_a_width_and_holds_the_values(values, unsigned):
    values = [abs(round(value)) for value in values] if unsigned else values
    low, high = proposed_range(DeepValues(min(values), max(values), 1.0, unsigned))
    assert low < high
    slack = 1e-9 * max(map(abs, values))
    assert low - slack <= min(values)
    assert max(values) <= high + slack
    assert plain_number(low) < plain_number(high) or high - low < 1e-5 * abs(high)


def test_digests_tell_pixels_apart_and_not_files():
    from sslpipe.decoding.decode import decode_with_info
    from sslpipe.decoding.pixels import Form

    one, other = (decode_with_info(image, Form(size=4, channels=3))[1] for image in (files.RGB8, files.RGB8.copy()))
    assert one.digest == other.digest
    assert len(bytes.fromhex(one.digest)) == 16
    changed = files.RGB8.copy()
    changed[0, 0, 0] ^= 1
    assert decode_with_info(changed, Form(size=4, channels=3))[1].digest != one.digest


def test_a_class_whose_images_are_all_broken_is_refused_with_its_name_and_reason(pictures):
    for path in (pictures / "b").iterdir():
        path.rename(path.with_suffix(".jxl"))
    with pytest.raises(
        UserError, match=r"none of the \d+ training images of 'b' could be decoded \(\.jxl files are not"
    ):
        prepared(pictures)
    assert not (pictures.parent / "out").exists()
