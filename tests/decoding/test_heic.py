"""HEIC photographs: what is stored of them, damaged files, and folders of them without pi-heif."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslpipe.decoding import heic_files
from sslpipe.decoding.decode import Decoder, decode_with_info
from sslpipe.decoding.entries import Entry
from sslpipe.decoding.image_formats import BrokenImageError, is_image
from sslpipe.decoding.pixels import Form, read_pixels
from sslpipe.preparation.listing import write_listing
from sslpipe.sources.folder import Settings, Source

sys.path.insert(0, str(Path(__file__).parents[1]))
from heic_files import box, heic, tiled

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (32, 48, 3)).astype(np.uint8)
FORM = Form(size=32, channels=3)
MISSING = "HEIC, which is not read without pi-heif; pip install 'sslpipe[heic]'"


def whole(path, **options):
    """The pixels of a file that are not resized, and what is known of them."""
    found = read_pixels(path, Form(size=32, channels=3, **options))
    return np.asarray(found.image), found.image_info


def written(path, content):
    path.write_bytes(content)
    return path


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


@pytest.fixture
def no_pi_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    heic_files.reads_heic.cache_clear()
    yield
    heic_files.reads_heic.cache_clear()


TURNED = {
    "as it is": ((), RGB),
    "90 degrees": ((box(b"irot", b"\1"),), np.rot90(RGB)),
    "180 degrees": ((box(b"irot", b"\2"),), np.rot90(RGB, 2)),
    "270 degrees": ((box(b"irot", b"\3"),), np.rot90(RGB, 3)),
    "upside down": ((box(b"imir", b"\0"),), RGB[::-1]),
    "mirrored": ((box(b"imir", b"\1"),), RGB[:, ::-1]),
    "turned, then mirrored": ((box(b"irot", b"\1"), box(b"imir", b"\1")), np.rot90(RGB)[:, ::-1]),
}


@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
@pytest.mark.parametrize("case", TURNED)
def test_the_containers_rotation_is_applied_once_and_that_of_exif_not(tmp_path, case, orientation):
    properties, expected = TURNED[case]
    exif = orientation and exif_of(orientation)
    pixels, image_info = whole(written(tmp_path / "a.heic", heic(RGB, properties=properties, exif=exif)))
    np.testing.assert_array_equal(pixels, expected)
    assert image_info.size == expected.shape[1::-1]


@pytest.mark.parametrize(
    "brands", [(b"heic", b"mif1"), (b"mif1", b"heic"), (b"mif1",), (b"mif1", b"miaf", b"MiHB", b"heix")]
)
@pytest.mark.parametrize("name", ["a.heic", "A.HIF", "a.jpg", "a"])
def test_heic_is_known_by_its_content(tmp_path, name, brands):
    path = written(tmp_path / name, heic(RGB, brands=brands))
    assert is_image(path)
    np.testing.assert_array_equal(whole(path)[0], RGB)


def test_another_format_with_a_suffix_of_heic_is_read(tmp_path, no_pi_heif):
    Image.fromarray(RGB).save(tmp_path / "a.heic", format="png")
    np.testing.assert_array_equal(whole(tmp_path / "a.heic")[0], RGB)


@pytest.mark.parametrize("properties", [(), (box(b"irot", b"\1"),)])
def test_an_image_of_tiles(tmp_path, properties):
    pixels, image_info = whole(written(tmp_path / "a.heic", tiled(RGB, 16, properties)))
    np.testing.assert_array_equal(pixels, np.rot90(RGB, len(properties)))
    assert not image_info.further


def test_a_photograph_is_resized_like_any_other(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    written(tmp_path / "a.heic", heic(RGB))
    for form in (Form(size=16, channels=3), Form(size=20, channels=1)):
        one, other = (decode_with_info(tmp_path / f"a.{suffix}", form) for suffix in ("png", "heic"))
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1] == other[1]


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    path = written(tmp_path / "a.heic", heic(RGB, said_size=(20_000, 10_000)))
    with pytest.raises(BrokenImageError, match=r"^200000000 pixels, more than the 178956970 of prepare.max_pixels"):
        decode_with_info(path, FORM)
    with pytest.raises(BrokenImageError, match=r"^HEIC not readable: Invalid image size"):
        whole(path, max_pixels=10**9)
    written(path, heic(RGB))
    assert whole(path, max_pixels=RGB.shape[0] * RGB.shape[1])[1].size == (48, 32)


@pytest.mark.parametrize("content", [heic(RGB), tiled(RGB, 16), tiled(RGB, 16, before=[255 - RGB])])
def test_a_truncated_file_is_broken_and_no_other_image_takes_its_place(tmp_path, content):
    reasons = set()
    for end in range(12, len(content), 29):
        with pytest.raises(BrokenImageError) as raised:
            decode_with_info(written(tmp_path / "a.heic", content[:end]), FORM)
        reasons.add(str(raised.value))
    assert reasons <= {
        "image file is truncated",
        "HEIC not readable: its primary image is damaged or truncated",
    }


def test_damaged_files_have_a_reason_of_one_line_or_pixels(tmp_path):
    """At some of them, such as the first, pi-heif 1.4 ends the process, which only the pool of processes survives."""
    random, paths = np.random.default_rng(0), []
    changes = [random.integers((600, 256), size=(random.integers(1, 4), 2)).tolist() for _ in range(150)]
    for number, changed in enumerate([[(215, 222)], *changes]):
        content = bytearray(heic(RGB, RGB, properties=[box(b"irot", b"\1")], exif=exif_of(6)))
        for place, value in changed:
            content[place] = value
        paths.append(written(tmp_path / f"{number}.heic", content))
    with Decoder(Files(paths), FORM, workers=1) as decoder:
        chunks = list(decoder.decode(np.arange(len(paths))))
    reasons = [reason for chunk in chunks for reason in chunk.broken.values()]
    assert 10 < len(reasons) < 141
    assert all(reason and "\n" not in reason for reason in reasons)


def test_heic_that_is_not_hevc_is_broken(tmp_path):
    content = heic(RGB).replace(b"hvc1", b"vvc1").replace(b"hvcC", b"vvcC")
    with pytest.raises(BrokenImageError, match=r"^HEIC not readable: "):
        decode_with_info(written(tmp_path / "a.heic", content), FORM)


class Files:
    """A source of files alone."""

    def __init__(self, paths):
        self.paths, self.entries = paths, [Entry(path.name) for path in paths]

    def load(self, index):
        return self.paths[index]


def test_other_processes_read_heic_too(tmp_path):
    paths = [written(tmp_path / f"{i}.heic", heic(np.roll(RGB, i, 0))) for i in range(4)]
    with Decoder(Files(paths), Form(size=1024, channels=3), workers=2) as decoder:
        assert decoder.workers == 2
        found = np.concatenate([chunk.images for chunk in decoder.decode(np.arange(4))])
    for path, image in zip(paths, found, strict=True):
        np.testing.assert_array_equal(image, decode_with_info(path, Form(size=1024, channels=3))[0])


def test_pi_heif_is_imported_for_heic_alone(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    written(tmp_path / "a.heic", heic(RGB))
    code = (
        "import sys; from pathlib import Path; from sslpipe.decoding.decode import decode\n"
        "for name in ('a.png', 'a.heic'):\n"
        "    decode(Path(name), size=8, channels=3); print('pi_heif' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(heic_files.__file__).parents[2])}
    run = [sys.executable, "-c", code]
    found = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("name", ["a.heic", "a.jpg", "a"])
def test_without_pi_heif_the_reason_names_the_package(tmp_path, no_pi_heif, name):
    path = written(tmp_path / name, heic(RGB))
    assert is_image(path)
    with pytest.raises(BrokenImageError) as raised:
        decode_with_info(path, FORM)
    assert str(raised.value) == MISSING


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("1.heic", "2.HEIF", "3.hif"):
        written(folder / name, heic(RGB))
    Image.fromarray(RGB).save(folder / "4.png")
    return folder


def listing(folder):
    out = folder.parent / "files.csv"
    write_listing(out, folder, (), where="prepare.folder.path")
    with out.open(newline="", encoding="utf-8") as file:
        return {row[0]: row[1:] for row in csv.reader(file)}


def test_a_folder_says_how_many_are_left_out(photos, no_pi_heif):
    source = Source(Settings(path=str(photos)))
    assert source.notes == ("HEIC left out: 3 of 4 images; pip install 'sslpipe[heic]' reads them",)
    assert [entry.name for entry in source.entries] == ["1.heic", "2.HEIF", "3.hif", "4.png"]
    found = listing(photos)
    assert [found[name] for name in ("1.heic", "2.HEIF", "3.hif")] == [["", ""]] * 3
    assert all(found["4.png"])


def test_with_pi_heif_nothing_is_left_out(photos):
    assert Source(Settings(path=str(photos))).notes == ()
    assert all(map(all, listing(photos).values()))
