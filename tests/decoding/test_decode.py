import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslpipe.decoding.decode import DEADLY, Decoder, decode, decode_with_info
from sslpipe.decoding.entries import Entry
from sslpipe.decoding.image_formats import BrokenImageError, is_image
from sslpipe.decoding.pixels import Form
from sslpipe.io.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)


class Files:
    """A source of files alone."""

    settings = None
    classes = ()
    ignored: dict[str, int] = {}  # noqa: RUF012
    unreadable: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, pictures):
        self.pictures = pictures
        self.entries = [Entry(str(i)) for i in range(len(pictures))]

    def load(self, index):
        return self.pictures[index]


@pytest.mark.parametrize(
    "suffix", ["png", "bmp", "tiff", "ppm", "tga", "webp", "gif", "pcx", "jp2", "ico", "sgi", "qoi"]
)
def test_lossless_formats_keep_grey_pixels(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    image = Image.fromarray(GREY).convert("RGB")
    options = {"webp": {"lossless": True}, "jp2": {"irreversible": False}, "ico": {"sizes": [(8, 8)]}}.get(suffix, {})
    image.save(path, **options)
    assert is_image(path)
    np.testing.assert_array_equal(decode(path, size=8, channels=1), GREY[None])


@pytest.mark.parametrize("suffix", ["jpg", "avif"])
def test_lossy_formats_stay_close(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    smooth = np.add.outer(np.arange(0, 128, 8), np.arange(0, 128, 8)).astype(np.uint8)
    Image.fromarray(smooth).save(path, quality=95)
    assert np.abs(decode(path, size=16, channels=1)[0].astype(int) - smooth).max() <= 6


def test_colour_is_channels_first_and_grey_is_repeated():
    np.testing.assert_array_equal(decode(COLOUR, size=8, channels=3), COLOUR.transpose(2, 0, 1))
    np.testing.assert_array_equal(decode(GREY, size=8, channels=3), np.stack([GREY] * 3))
    luma = COLOUR @ [0.299, 0.587, 0.114]
    assert np.abs(decode(COLOUR, size=8, channels=1)[0] - luma).max() <= 1


@pytest.mark.parametrize(
    ("mode", "fill", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (10, 255), (10, 10, 10)),
        ("LA", (10, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("I", 257 * 100, (100, 100, 100)),
        ("F", 0.5, (128, 128, 128)),
        ("F", 200.0, (255, 255, 255)),
        ("YCbCr", (90, 128, 128), (90, 90, 90)),
    ],
)
def test_modes(tmp_path, mode, fill, expected):
    path = tmp_path / "image.tiff"
    Image.new(mode, (5, 5), fill).save(path)
    assert decode(path, size=4, channels=3)[:, 0, 0].tolist() == list(expected)


def test_sixteen_bit_png_spans_the_whole_scale(tmp_path):
    deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(decode(tmp_path / "deep.png", size=4, channels=1)[0], deep // 257)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_without_a_finite_value_is_broken(tmp_path, value):
    Image.new("F", (2, 2), value).save(tmp_path / "image.tiff")
    with pytest.raises(BrokenImageError, match="no finite value among its float32 values"):
        decode(tmp_path / "image.tiff", size=2, channels=1)


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "L").convert("P")
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.save(tmp_path / "palette.png", transparency=0)
    pixels = decode(tmp_path / "palette.png", size=2, channels=3)
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 0, 1].tolist() == [0, 0, 200]


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "moving.gif", size=4, channels=3)[:, 2, 2].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / "rotated.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "rotated.png", size=8, channels=1)[0], undo[orientation](GREY))


def test_shorter_side_is_resized_and_the_centre_kept():
    wide = np.zeros((10, 40), np.uint8)
    wide[:, 15:25] = 255
    np.testing.assert_array_equal(decode(wide, size=10, channels=1)[0], np.full((10, 10), 255))
    assert decode(wide.T.copy(), size=5, channels=1)[0, 1:4].min() == 255
    strip = np.full((1, 30000), 9, np.uint8)
    np.testing.assert_array_equal(decode(strip, size=3, channels=1), np.full((1, 3, 3), 9))


def test_shrinking_averages_instead_of_picking():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    assert np.abs(decode(checks.astype(np.uint8), size=8, channels=1).astype(int) - 127).max() <= 3


def test_a_jpeg_decoded_at_a_fraction_of_its_size_is_the_same_picture(tmp_path):
    smooth = (np.add.outer(np.arange(512), np.arange(512)) / 4).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "large.jpg", quality=95)
    found = decode(tmp_path / "large.jpg", size=16, channels=1).astype(int)
    assert np.abs(found - decode(smooth, size=16, channels=1)).max() <= 2


def broken_files(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.jpg"
    Image.fromarray(np.tile(COLOUR, (16, 16, 1))).save(whole)
    names = ["empty.jpg", "text.jpg", "cut.jpg", "cut.png", "gone.png", "self.png", "only-header.gif"]
    files = {name: folder / name for name in names}
    files["empty.jpg"].touch()
    files["text.jpg"].write_text("this is not an image")
    Image.fromarray(COLOUR).save(files["cut.png"])
    for name, content in (("cut.jpg", whole.read_bytes()), ("cut.png", files["cut.png"].read_bytes())):
        files[name].write_bytes(content[: len(content) // 2])
    files["gone.png"].symlink_to(folder / "nowhere.png")
    files["self.png"].symlink_to(files["self.png"])
    files["only-header.gif"].write_bytes(b"GIF89a")
    return files


@pytest.mark.parametrize(
    "name", ["empty.jpg", "text.jpg", "cut.jpg", "cut.png", "gone.png", "self.png", "only-header.gif"]
)
def test_broken_files_have_a_reason_of_one_line(tmp_path, name):
    path = broken_files(tmp_path)[name]
    with pytest.raises(BrokenImageError) as raised:
        decode(path, size=8, channels=3)
    assert str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (bytes(1000), "a file of zeros"),
        (b"\n <!DOCTYPE html>", "HTML, XML or SVG"),
        (b"\xef\xbb\xbf<svg/>", "HTML, XML or SVG"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS ('git lfs pull' fetches the file)"),
        (b"\xff\x0a\xfa", "JPEG XL (convert it to JPEG or PNG)"),
        (b"PK\3\4..", "a workbook or a ZIP file"),
        (b"\x1f\x8b", "a compressed file"),
        (b"%PDF-1.4", "a PDF file"),
    ],
)
def test_what_is_found_in_place_of_an_image(tmp_path, content, what):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BrokenImageError, match=f"^{re.escape(what)} found, expected an image$"):
        decode(tmp_path / "a.jpg", size=8, channels=3)


def test_an_image_of_too_many_pixels_is_broken_and_the_reason_names_the_setting(tmp_path):
    Image.new("L", (100, 101), 7).save(tmp_path / "bomb.png")
    with pytest.raises(BrokenImageError, match=r"^10100 pixels, more than the 10099 of prepare.max_pixels"):
        decode_with_info(tmp_path / "bomb.png", Form(size=8, channels=1, max_pixels=10_099))
    assert decode_with_info(tmp_path / "bomb.png", Form(size=8, channels=1, max_pixels=10_100))[0].max() == 7


def test_what_pillow_warns_of_is_not_shown(tmp_path, monkeypatch):
    Image.new("L", (15, 10), 5).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings(record=True) as caught:
        assert decode(tmp_path / "large.png", size=2, channels=1).max() == 5
        assert is_image(tmp_path / "large.png")
    assert not caught


@pytest.mark.parametrize(
    ("name", "content", "taken"),
    [
        ("a.jpg", b"text", True),
        ("A.JPEG", b"text", True),
        ("a.csv", b"file,label\n", False),
        ("README", b"Read me.", False),
        ("a.h5", b"\x89HDF\r\n\x1a\n", False),
        ("empty", b"", False),
        ("data.bin", None, True),
        ("nothing", None, True),
    ],
)
def test_is_image(tmp_path, name, content, taken):
    path = tmp_path / name
    if content is None:
        Image.fromarray(GREY).save(path, format="PNG")
    else:
        path.write_bytes(content)
    assert is_image(path) is taken


def many(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.new("L", (3, 3), i % 256).save(path)
    return paths


@pytest.mark.parametrize("workers", [1, 2])
def test_chunks_come_in_order_with_broken_ones_named(tmp_path, workers, monkeypatch):
    monkeypatch.setattr("sslpipe.decoding.decode.CHUNK_IMAGES", 4)
    paths = many(tmp_path, 30)
    for i in (0, 5, 8, 9, 10, 11):
        paths[i].write_text("not an image")
    order = np.array([i for i in reversed(range(30)) if i != 20])
    with Decoder(Files(paths), Form(size=2, channels=1), workers=workers) as decoder:
        chunks = list(decoder.decode(order))
    images = np.concatenate([chunk.images for chunk in chunks])
    index = np.concatenate([chunk.index for chunk in chunks])
    assert index.tolist() == [i for i in order.tolist() if i not in (0, 5, 8, 9, 10, 11)]
    np.testing.assert_array_equal(images[:, 0, 0, 0], index)
    broken = {i: reason for chunk in chunks for i, reason in chunk.broken.items()}
    assert broken == dict.fromkeys((0, 5, 8, 9, 10, 11), "not an image that Pillow reads")


class Deadly:
    """Ends the process that it is sent to."""

    def __reduce__(self):
        return os._exit, (7,)


def test_an_image_at_which_its_process_dies_is_broken_and_no_other_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("sslpipe.decoding.decode.CHUNK_IMAGES", 4)
    source = Files([*many(tmp_path, 6), Deadly(), *many(tmp_path, 6), Deadly()])
    with Decoder(source, Form(size=2, channels=1), workers=2) as decoder:
        chunks = list(decoder.decode(np.arange(14)))
    assert {entry: reason for chunk in chunks for entry, reason in chunk.broken.items()} == {6: DEADLY, 13: DEADLY}
    assert np.concatenate([chunk.index for chunk in chunks]).tolist() == [*range(6), *range(7, 13)]
    images = np.concatenate([chunk.images for chunk in chunks])
    assert images[:, 0, 0, 0].tolist() == [*range(6), *range(6)]
    assert [info.size for chunk in chunks for info in chunk.image_info] == [(3, 3)] * 12


def test_processes_that_die_at_every_image_are_an_error_and_not_a_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("sslpipe.decoding.decode.MOST_DEADLY", 1)
    monkeypatch.setattr("sslpipe.decoding.decode.CHUNK_IMAGES", 1)
    source = Files([*many(tmp_path, 1), Deadly(), Deadly()])
    with (
        pytest.raises(UserError, match="died at each of 2 images"),
        Decoder(source, Form(size=2, channels=1), workers=2) as decoder,
    ):
        list(decoder.decode(np.arange(3)))


def test_decoding_processes_do_not_load_torch():
    modules = (
        "preparation.store_writer",
        "preparation.downloads",
        "preparation.arrays",
        "sources.folder",
        "sources.imagenet",
    )
    names = ", ".join(f"sslpipe.{name}" for name in modules)
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
