"""What a pixel is: every row of docs/pixels.md, with files that Pillow did not write, and pictures that were lost."""

import struct
import sys
import tracemalloc
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps, PngImagePlugin

from sslpipe.decoding.decode import decode, decode_chunk, decode_with_info
from sslpipe.decoding.image_formats import BrokenImageError, is_image
from sslpipe.decoding.pixels import Form

sys.path.insert(0, str(Path(__file__).parents[1]))
import pixel_files as files
from heic_files import heic
from pixel_files import GREY8, GREY16, PIXELS, RGB8, RGB16, SIDE, chunk, on_white, png, rgb, tiff

DOCS = Path(__file__).parents[2] / "docs" / "pixels.md"


def stored(path, **settings):
    """The decoded pixels of a file of 4 x 4 pixels, [4, 4, channels], and what is known of the image."""
    array, image_info = decode_with_info(path, Form(**{"size": SIDE, "channels": 3, **settings}))
    return array.transpose(1, 2, 0).astype(int), image_info


def colours(expected):
    expected = np.asarray(expected)
    return rgb(expected) if expected.ndim == 2 else expected


@pytest.mark.parametrize("row", PIXELS, ids=lambda row: row.name)
def test_each_row_of_the_table(tmp_path, row):
    path = tmp_path / f"image.{row.suffix}"
    row.write(path)
    pixels, image_info = stored(path)
    np.testing.assert_allclose(pixels, colours(row.expected), atol=row.tolerance, rtol=0)
    assert image_info.further is row.further
    assert not image_info.on_black
    if row.values is not None:
        assert image_info.deep.low == pytest.approx(np.min(row.values))
        assert image_info.deep.high == pytest.approx(np.max(row.values))
        assert image_info.clipped == bool(np.min(row.values) < 0 or np.max(row.values) > image_info.deep.white)
    grey, _ = stored(path, channels=1)
    luma = colours(row.expected) @ [0.299, 0.587, 0.114]
    assert np.abs(grey[..., 0] - luma).max() <= 1 + row.tolerance


@pytest.mark.parametrize("row", [row for row in PIXELS if row.values is not None], ids=lambda row: row.name)
def test_each_deep_row_with_a_range_of_values(tmp_path, row):
    path = tmp_path / f"image.{row.suffix}"
    row.write(path)
    low, high = np.quantile(np.asarray(row.values, float), [0.2, 0.8]).tolist()
    pixels, image_info = stored(path, value_range=(low, high))
    np.testing.assert_array_equal(pixels, colours(row.ranged(low, high)))
    assert image_info.clipped
    assert not stored(path, value_range=(float(np.min(row.values)), float(np.max(row.values))))[1].clipped


def test_the_docs_have_exactly_these_rows():
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert lines == ["| format | depth | mode | what is stored |", *(row.line() for row in PIXELS)]


def test_a_range_of_values_does_not_apply_to_8_bits(tmp_path):
    for name, write in (("a.png", files.content(png(GREY8, 8, 0))), ("a.tif", tiff(GREY8))):
        write(tmp_path / name)
        pixels, image_info = stored(tmp_path / name, value_range=(0.0, 100.0))
        np.testing.assert_array_equal(pixels, rgb(GREY8))
        assert image_info.deep is None
        assert not image_info.clipped


def test_twelve_bits_in_a_file_of_sixteen(tmp_path):
    tiff(files.TWELVE)(tmp_path / "a.tif")
    pixels, image_info = stored(tmp_path / "a.tif", value_range=(0.0, 4095.0))
    np.testing.assert_array_equal(pixels, rgb(files.scaled(files.TWELVE, 4095)))
    assert (image_info.deep.low, image_info.deep.high, image_info.clipped) == (
        files.TWELVE.min(),
        files.TWELVE.max(),
        False,
    )


def test_floats_have_one_scale_and_not_one_for_each_image(tmp_path):
    shades = []
    for name, brightest in (("a", 1.0), ("b", 1.5), ("c", 200.0)):
        values = np.full((SIDE, SIDE), 0.5, np.float32)
        values[0, 0] = brightest
        tiff(values)(tmp_path / f"{name}.tif")
        shades.append(stored(tmp_path / f"{name}.tif")[0][1, 1, 0])
    assert shades == [128, 128, 128]


def test_what_is_not_a_number_is_black_and_counted(tmp_path):
    values = np.full((SIDE, SIDE), 0.5, np.float32)
    values[0] = [np.nan, np.inf, -np.inf, 1.0]
    tiff(values)(tmp_path / "a.tif")
    pixels, image_info = stored(tmp_path / "a.tif")
    assert pixels[0, :, 0].tolist() == [0, 255, 0, 255]
    assert image_info.clipped
    assert (image_info.deep.low, image_info.deep.high) == (0.5, 1.0)


@pytest.mark.parametrize("mode", ["I;16", "RGB"])
def test_tiff_of_sixteen_bits_compressed_by_lzw(tmp_path, mode):
    """Tifffile alone cannot decompress it."""
    if mode == "I;16":
        Image.fromarray(GREY16).save(tmp_path / "a.tif", compression="tiff_lzw")
        np.testing.assert_array_equal(stored(tmp_path / "a.tif")[0], rgb(files.scaled(GREY16, 65535)))
        return
    # An LZW stream of 9 bits per code: a clear code before each byte.
    data = files.RGB16.astype("<u2").tobytes()
    bits = "".join(f"{256:09b}{byte:09b}" for byte in data) + f"{257:09b}"
    bits += "0" * (-len(bits) % 8)
    packed = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    tags = [(256, SIDE), (257, SIDE), (258, 16), (259, 5), (262, 2), (273, 122), (277, 3), (278, SIDE)]
    tags.append((279, len(packed)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    (tmp_path / "a.tif").write_bytes(head + packed)
    np.testing.assert_array_equal(stored(tmp_path / "a.tif")[0], files.scaled(files.RGB16, 65535))


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_tiffs(tmp_path, orientation, planes):
    values = files.RGB16[:, :3].copy()
    if planes:
        values = values.transpose(2, 0, 1).copy()
    tag = (274, 3, 1, orientation, True)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="rgb", planarconfig="separate" if planes else None, extratags=[tag]
    )
    image = files.scaled(files.RGB16[:, :3], 65535)
    undo = [
        lambda a: a,
        np.fliplr,
        lambda a: np.rot90(a, 2),
        np.flipud,
        lambda a: a.transpose(1, 0, 2),
        lambda a: np.rot90(a, -1),
        lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        np.rot90,
    ]
    _, image_info = decode_with_info(tmp_path / "a.tif", Form(size=3, channels=3))
    assert image_info.size == ((3, 4) if orientation < 5 else (4, 3))
    found = decode(tmp_path / "a.tif", size=3, channels=3).transpose(1, 2, 0)
    expected = undo[orientation - 1](image)
    reference = decode(np.ascontiguousarray(expected.astype(np.uint8)), size=3, channels=3).transpose(1, 2, 0)
    np.testing.assert_array_equal(found, reference)


# Transparency.


def drawing(colour, opaque=0.1, side=40, noise=0, edge=True):
    """A disc of one colour on transparent, with an antialiased edge."""
    rng = np.random.default_rng(0)
    distance = np.hypot(*(np.indices((side, side)) - side / 2))
    radius = side * (opaque / np.pi) ** 0.5
    alpha = np.clip(radius - distance + 0.5, 0, 1) if edge else distance < radius
    pixels = np.clip(np.array(colour) + rng.integers(-noise, noise + 1, (side, side, 3)), 0, 255)
    return Image.fromarray(np.dstack([pixels, np.rint(alpha * 255)]).astype(np.uint8), "RGBA")


@pytest.mark.parametrize(
    ("colour", "black"),
    [
        ((255, 255, 255), True),
        ((250, 250, 250), True),
        ((255, 255, 240), True),
        ((0, 0, 0), False),
        ((255, 255, 0), False),
        ((200, 200, 200), False),
        ((230, 230, 230), False),
    ],
)
@pytest.mark.parametrize("noise", [0, 4])
@pytest.mark.parametrize("opaque", [0.02, 0.5])
def test_a_drawing_is_put_where_it_can_be_seen(tmp_path, colour, black, noise, opaque):
    drawing(colour, opaque, noise=noise).save(tmp_path / "a.png")
    pixels, image_info = stored(tmp_path / "a.png", size=40)
    assert image_info.on_black is black
    assert (pixels[0, 0] == (0 if black else 255)).all()
    assert pixels.max(axis=(0, 1)).max() - pixels.min(axis=(0, 1)).min() > 10


@pytest.mark.parametrize("mode", ["LA", "PA", "P"])
def test_a_white_drawing_of_other_modes(tmp_path, mode):
    image = drawing((255, 255, 255), edge=False)
    if mode == "LA":
        image.convert("LA").save(tmp_path / "a.png")
    else:
        index = np.asarray(image)[..., 3] // 255
        palette = chunk(b"PLTE", bytes([255, 255, 255] * 2))
        (tmp_path / "a.png").write_bytes(png(index, 8, 3, [palette, chunk(b"tRNS", b"\0")], width=40))
    pixels, image_info = stored(tmp_path / "a.png", size=40)
    assert image_info.on_black
    assert (pixels[0, 0, 0], pixels[20, 20, 0]) == (0, 255)


def test_wholly_opaque_and_wholly_transparent_images_are_on_white(tmp_path):
    for name, alpha, expected in (("opaque", 255, 250), ("transparent", 0, 255)):
        Image.new("RGBA", (SIDE, SIDE), (250, 250, 250, alpha)).save(tmp_path / f"{name}.png")
        pixels, image_info = stored(tmp_path / f"{name}.png")
        assert not image_info.on_black
        assert (pixels == expected).all()


# Profiles.


def profile(space, tags, pcs=b"XYZ "):
    """An ICC profile of version 2."""
    tags = {b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(0.9642, 1.0, 0.8249), **tags}
    tags[b"desc"] = b"desc\0\0\0\0\0\0\0\2a\0" + bytes(78)
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data.ljust(-len(data) % 4 + len(data), b"\0")
    whole = struct.pack(">I", len(tags)) + table + body
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = struct.pack(">I4sI4s4s4s", 128 + len(whole), b"none", 0x02100000, kind, space, pcs)
    head += bytes(12) + b"acsp" + bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:]
    return head.ljust(128, b"\0") + whole


def xyz(*values):
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def gamma(value):
    return b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(value * 256))


def matrix_profile(primaries, exponent):
    names = (b"r", b"g", b"b")
    tags = {name + b"XYZ": xyz(*column) for name, column in zip(names, np.transpose(primaries), strict=True)}
    return profile(b"RGB ", tags | {name + b"TRC": gamma(exponent) for name in names})


SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
PROPHOTO = np.array([[0.79767, 0.13519, 0.03134], [0.28804, 0.71188, 0.00009], [0.0, 0.0, 0.82491]])


def to_srgb(values, primaries, exponent):
    """The definition: to linear light, to XYZ, to sRGB's primaries, and to its curve."""
    linear = (np.asarray(values) / 255) ** (round(exponent * 256) / 256)
    linear = np.clip(linear @ np.transpose(primaries) @ np.linalg.inv(SRGB).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "heic", "16-bit png", "palette png"])
@pytest.mark.parametrize(("primaries", "exponent"), [(ADOBE, 2.2), (PROPHOTO, 1.8)], ids=["Adobe", "ProPhoto"])
def test_profiles_of_wide_colours_are_converted_to_srgb(tmp_path, suffix, primaries, exponent):
    icc = matrix_profile(primaries, exponent)
    path = tmp_path / f"a.{suffix.split()[-1]}"
    for colour in ([110, 130, 160], [160, 120, 90], [80, 60, 130], [255, 255, 255], [0, 0, 0]):
        values = np.full((SIDE, SIDE, 3), colour, np.uint8)
        extra = [chunk(b"iCCP", b"wide\0\0" + zlib.compress(icc))]
        if suffix == "16-bit png":
            path.write_bytes(png(files.big(values.astype(int) * 257), 16, 2, extra))
        elif suffix == "palette png":
            index = np.zeros((SIDE, SIDE), np.uint8)
            path.write_bytes(png(index, 8, 3, [*extra, chunk(b"PLTE", bytes(colour))]))
        elif suffix == "png":
            path.write_bytes(png(values.reshape(SIDE, -1), 8, 2, extra))
        elif suffix == "tif":
            tifffile.imwrite(path, values, photometric="rgb", iccprofile=icc)
        elif suffix == "heic":
            path.write_bytes(heic(values, icc=icc))
        else:
            options = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0}
            Image.fromarray(values).save(path, icc_profile=icc, **options)
        expected = to_srgb(colour, primaries, exponent)
        assert np.abs(expected - colour).max() > 4 or colour in ([255] * 3, [0] * 3)
        np.testing.assert_allclose(stored(path)[0][1, 1], expected, atol=3)
        grey = stored(path, channels=1)[0][1, 1, 0]
        assert grey == pytest.approx(expected @ [0.299, 0.587, 0.114], abs=3)


def test_a_profile_of_grey_is_converted(tmp_path):
    icc = profile(b"GRAY", {b"kTRC": gamma(1.0)})
    values = np.full((SIDE, SIDE), 64, np.uint8)
    (tmp_path / "a.png").write_bytes(png(values, 8, 0, [chunk(b"iCCP", b"grey\0\0" + zlib.compress(icc))]))
    pixels, image_info = stored(tmp_path / "a.png")
    np.testing.assert_allclose(pixels, 137, atol=1)
    assert not image_info.colour
    rows = np.stack([values, files.ALPHA8], -1).reshape(SIDE, -1)
    (tmp_path / "b.png").write_bytes(png(rows, 8, 4, [chunk(b"iCCP", b"grey\0\0" + zlib.compress(icc))]))
    np.testing.assert_allclose(stored(tmp_path / "b.png")[0][0, :2, 0], [255, 137], atol=1)


def cmyk_profile():
    """A profile by which full cyan is a grey of L* = 50, and black ink is black; white without ink."""
    light = [0 if ink & 1 else 127 if ink & 8 else 255 for ink in range(16)]
    identity = bytes(range(256))
    grid = b"".join(bytes([value, 128, 128]) for value in light)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0])
    table += b"".join(struct.pack(">i", value) for value in (65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    return profile(b"CMYK", {b"A2B0": table + identity * 4 + grid + identity * 3}, pcs=b"Lab ")


def test_a_profile_of_cmyk_is_converted(tmp_path):
    values = np.zeros((SIDE, SIDE, 4), np.uint8)
    values[:, 1, 3], values[:, 2, 0] = 255, 255
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="separated", iccprofile=cmyk_profile())
    np.testing.assert_allclose(stored(tmp_path / "a.tif")[0][0, :3], rgb([[255, 0, 118]])[0], atol=2)
    tifffile.imwrite(tmp_path / "b.tif", values, photometric="separated", iccprofile=b"nonsense" * 30)
    assert stored(tmp_path / "b.tif")[0][0, :3].tolist() == [[255] * 3, [0] * 3, [0, 255, 255]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("icc", ["srgb", "noise", "cut", "empty", "grey's"])
def test_a_profile_that_is_srgb_or_broken_changes_no_pixel(tmp_path, icc, channels):
    adobe = matrix_profile(ADOBE, 2.2)
    data = {
        "srgb": matrix_profile(SRGB, 2.2),
        "noise": np.random.default_rng(0).bytes(500),
        "cut": adobe[:200],
        "empty": b"",
        "grey's": profile(b"GRAY", {b"kTRC": gamma(1.0)}),
    }[icc]
    if icc == "srgb":
        from PIL import ImageCms

        data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB8).save(tmp_path / "a.png", icc_profile=data)
    expected = decode(RGB8, size=3, channels=channels)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", size=3, channels=channels), expected)


# Raw camera files.


@pytest.mark.parametrize("name", ["a.dng", "a.NEF", "a.cr2", "a.arw", "a.orf", "a.rw2"])
def test_raw_camera_files_are_broken_images(tmp_path, name):
    tiff(GREY8)(tmp_path / name)
    assert is_image(tmp_path / name)
    with pytest.raises(BrokenImageError, match="raw camera file, of which only the thumbnail"):
        decode(tmp_path / name, size=4, channels=1)


def test_a_dng_is_recognised_by_its_tags(tmp_path):
    tifffile.imwrite(tmp_path / "photo", GREY8, photometric="minisblack", extratags=[(50706, 1, 4, (1, 4, 0, 0), True)])
    (tmp_path / "photo.tif").write_bytes((tmp_path / "photo").read_bytes())
    assert is_image(tmp_path / "photo")
    with pytest.raises(BrokenImageError, match="raw camera file"):
        decode(tmp_path / "photo.tif", size=4, channels=1)


# Good pictures with something odd beside the pixels.


def exif_with(entries, endian="<"):
    """EXIF of tags of any type: (tag, type, count, four bytes)."""
    head = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(f"{endian}IH", 8, len(entries))
    body = b"".join(struct.pack(f"{endian}HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0" + head + body + struct.pack(f"{endian}I", 0)


ORIENTED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
ODD_TAGS = [
    (0x0128, 2, 4, b"inch"),  # ResolutionUnit as text
    (0x0103, 11, 1, struct.pack("<f", 6.5)),  # Compression as a float
    (0x011A, 3, 1, b"\1\0\0\0"),  # XResolution as a short
    (0x0100, 5, 1, b"\xff\xff\xff\x7f"),  # a rational beyond the end
    (0x8769, 2, 4, b"abcd"),  # the pointer to more EXIF as text
    (0x9286, 99, 7, b"abcd"),  # an unknown type
    (0x8298, 12, 1 << 30, b"\0\0\0\0"),  # more values than there are bytes
]


@pytest.mark.parametrize("odd", ODD_TAGS, ids=lambda odd: hex(odd[0]))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_rotated_photo_with_an_odd_tag(tmp_path, odd, suffix):
    image = np.kron(np.array([[0, 255], [90, 200]], np.uint8), np.ones((8, 8), np.uint8))
    exif = exif_with(sorted([ORIENTED, odd], key=lambda entry: entry[0]))
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        path.write_bytes(png(image, 8, 0, [chunk(b"eXIf", exif[6:])], width=16))
    elif suffix == "tif":
        value = odd[3] if odd[1] == 2 else 1
        tag = (odd[0], 2 if odd[1] == 2 else 4, 4 if odd[1] == 2 else 1, value, True)
        tifffile.imwrite(path, image, photometric="minisblack", extratags=[(274, 3, 1, 6, True), tag], metadata=None)
    else:
        Image.fromarray(image).save(path, exif=exif, quality=95)
    found = decode(path, size=16, channels=1)[0].astype(int)
    assert np.abs(found - np.rot90(image, -1)).max() < 12


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"nonsense", bytes(100), b"MM\0*\xff\xff\xff\xff"])
def test_a_malformed_exif_loses_no_picture(tmp_path, exif):
    (tmp_path / "a.png").write_bytes(png(GREY8, 8, 0, [chunk(b"eXIf", exif)]))
    np.testing.assert_array_equal(stored(tmp_path / "a.png")[0], rgb(GREY8))
    buffer = BytesIO()
    Image.new("L", (8, 8), 99).save(buffer, "JPEG", quality=100)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[:2] + segment + buffer.getvalue()[2:])
    assert (stored(tmp_path / "a.jpg")[0] == 99).all()


@pytest.mark.parametrize(
    ("tag", "kind", "count", "value"),
    [
        (282, 2, 4, b"72\0\0"),  # XResolution as text
        (700, 3, 1, b"\5\0\0\0"),  # XMP as a number
        (34665, 2, 4, b"abcd"),  # the pointer to EXIF as text
        (34853, 4, 1, b"\xff\xff\0\0"),  # the pointer to GPS beyond the end
        (34675, 2, 4, b"abc\0"),  # a profile as text
        (274, 2, 4, b"top\0"),  # Orientation as text
        (65000, 99, 1, b"\5\0\0\0"),  # an unknown type
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_a_tiff_with_an_odd_tag(tmp_path, tag, kind, count, value):
    unit = struct.pack("<HHII", 296, 4, 1, 3)
    content = files.plain_tiff(GREY8.tobytes(), 8, 1, struct.pack("<HHI", tag, kind, count) + value, unit)
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(stored(tmp_path / "a.tif")[0], rgb(GREY8))


def wrong(piece):
    return piece[:-1] + bytes([piece[-1] ^ 1])


LONG = bytes(PngImagePlugin.MAX_TEXT_CHUNK + 10)
ODD_CHUNKS = {
    "long zTXt": chunk(b"zTXt", b"key\0\0" + zlib.compress(LONG)),
    "long iTXt": chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(LONG)),
    "long iCCP": chunk(b"iCCP", b"key\0\0" + zlib.compress(LONG)),
    "iCCP of an unknown compression": chunk(b"iCCP", b"key\0\7" + zlib.compress(b"abc")),
    "tEXt with a wrong checksum": wrong(chunk(b"tEXt", b"key\0text")),
    "tIME with a wrong checksum": wrong(chunk(b"tIME", bytes(7))),
    "pHYs that is too short": chunk(b"pHYs", b"ab"),
    "gAMA that is too short": chunk(b"gAMA", b"ab"),
    "cHRM that is too short": chunk(b"cHRM", b"ab"),
    "eXIf with a wrong checksum": wrong(chunk(b"eXIf", exif_with([ORIENTED])[6:])),
    "acTL of no frames": chunk(b"acTL", bytes(8)),
    "fcTL of a frame outside": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", bytes(26)),
}


@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_a_png_with_an_odd_chunk_beside_the_pixels(tmp_path, name):
    (tmp_path / "a.png").write_bytes(png(RGB8.reshape(SIDE, -1), 8, 2, [ODD_CHUNKS[name]]))
    np.testing.assert_array_equal(stored(tmp_path / "a.png")[0], RGB8)


def test_transparency_and_profile_and_orientation_survive_an_odd_chunk(tmp_path):
    icc = matrix_profile(PROPHOTO, 1.8).ljust(len(LONG) + 100, b"\0")
    odd = [
        ODD_CHUNKS["long zTXt"],
        chunk(b"iCCP", b"key\0\0" + zlib.compress(icc)),
        chunk(b"eXIf", exif_with([(0x0112, 3, 1, struct.pack("<HH", 3, 0))])[6:]),
    ]
    values = np.dstack([np.full((SIDE, SIDE, 3), [120, 130, 140], np.uint8), files.ALPHA8])
    (tmp_path / "a.png").write_bytes(png(values.reshape(SIDE, -1), 8, 6, odd))
    pixels = stored(tmp_path / "a.png")[0]
    np.testing.assert_allclose(pixels[0, 0], to_srgb([120, 130, 140], PROPHOTO, 1.8), atol=3)
    assert (pixels[:, 1] == 255).all()


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_the_picture_itself_is_broken(tmp_path, name):
    whole = png(files.INDEX, 8, 3, [files.PLTE])
    at = whole.index(name)
    (length,) = struct.unpack(">I", whole[at - 4 : at])
    end = at + 4 + length + 4
    (tmp_path / "a.png").write_bytes(wrong(whole[:end]) + whole[end:])
    with pytest.raises(BrokenImageError):
        stored(tmp_path / "a.png")


def test_on_white_is_exact():
    """The expectation of the table itself: visible pixels stay as they are."""
    assert (on_white(RGB8)[:, 1] == RGB8[:, 1]).all()
    assert (on_white(RGB8)[:, 0] == 255).all()


# What did not change, and formats that have no writer here but Pillow's.


def of_earlier_versions(path, size, channels):
    """The pixels of images of 8 bits without a profile, as sslpipe 0.1 decoded them."""
    with Image.open(path) as image:
        image.draft(None, (2 * size, 2 * size))
        ImageOps.exif_transpose(image, in_place=True)
        if image.has_transparency_data:
            above = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
        mode = "L" if channels == 1 or image.mode in ("1", "L") else "RGB"
        image = ImageOps.fit(image.convert(mode), (size, size), Image.Resampling.BICUBIC)
        return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(size, size, channels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp", "jp2"])
def test_images_of_8_bits_keep_their_pixels(tmp_path, suffix, mode):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (5, 7, 4), dtype=np.uint8), "RGBA").resize((150, 110))
    exif = Image.Exif()
    exif[0x0112] = 8
    try:
        smooth.convert("RGB" if mode in ("CMYK", "P", "1") else "RGBA").convert(mode).save(
            tmp_path / f"a.{suffix}", exif=exif
        )
    except (OSError, KeyError, ValueError):
        pytest.skip(f"Pillow does not write {mode} to {suffix}")
    for channels in (1, 3):
        found = decode(tmp_path / f"a.{suffix}", size=20, channels=channels)
        np.testing.assert_array_equal(
            found.transpose(1, 2, 0), of_earlier_versions(tmp_path / f"a.{suffix}", 20, channels)
        )


@pytest.mark.parametrize(
    ("suffix", "further"), [("webp", True), ("png", True), ("avif", True), ("gif", True), ("tif", True), ("mpo", False)]
)
def test_further_frames_are_known_and_the_first_is_used(tmp_path, suffix, further):
    frames = [Image.new("RGB", (16, 16), shade) for shade in ((200,) * 3, (20,) * 3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    pixels, image_info = stored(tmp_path / f"a.{suffix}")
    assert image_info.further is further
    np.testing.assert_allclose(pixels, 200, atol=3)


@pytest.mark.parametrize("values", [GREY8, GREY16, GREY16 / 65535], ids=["8 bits", "16 bits", "float64"])
def test_a_smaller_copy_is_no_further_page(tmp_path, values):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values, photometric="minisblack")
        file.write(values[:2, :2], photometric="minisblack", subfiletype=1)
    assert stored(tmp_path / "a.tif")[1].further is False


def test_jpeg_2000_of_sixteen_bits(tmp_path):
    Image.fromarray(GREY16).save(tmp_path / "a.jp2", irreversible=False)
    np.testing.assert_array_equal(stored(tmp_path / "a.jp2")[0], rgb(files.scaled(GREY16, 65535)))


@pytest.mark.parametrize("mode", ["RGB", "LA", "RGBA"])
def test_jpeg_2000_in_colour_of_more_than_8_bits_is_broken_as_pillow_makes_its_white_black(tmp_path, mode):
    for bits in (8, 12):
        Image.new(mode, (16, 16)).save(tmp_path / "a.jp2")
        content = bytearray((tmp_path / "a.jp2").read_bytes())
        at = content.index(b"\xff\x4f\xff\x51") + 42
        content[at : at + 3 * len(mode) : 3] = bytes([bits - 1]) * len(mode)
        (tmp_path / "a.jp2").write_bytes(content)
        if bits == 8:
            stored(tmp_path / "a.jp2")
        else:
            with pytest.raises(BrokenImageError, match=r"^JPEG 2000 in colour of more than 8 bits"):
                stored(tmp_path / "a.jp2")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("bands", [2, 3, 5])
def test_bands_in_planes(tmp_path, bands, dtype):
    white = {"u": 255, "i": 32767, "f": 1}[np.dtype(dtype).kind] if dtype != np.uint16 else 65535
    values = (RGB16[..., 0] / 65535 * white + np.zeros((bands, 1, 1))).astype(dtype)
    tiff(values, planarconfig="separate", extrasamples=["unspecified"] * (bands - 1))(tmp_path / "a.tif")
    pixels, image_info = stored(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels, rgb(files.scaled(values[0].astype(float), white)))
    assert image_info.further


@pytest.mark.parametrize("values", [RGB8, RGB16, GREY8[..., None]], ids=["8 bits", "16 bits", "grey"])
@pytest.mark.parametrize("more", [1, 2])
def test_channels_beside_the_colours_are_known(tmp_path, values, more):
    whole = np.concatenate([values, np.full((SIDE, SIDE, more), 77, values.dtype)], axis=-1)
    settings = {"planarconfig": "contig", "extrasamples": ["unspecified"] * more}
    settings["photometric"] = "rgb" if values.shape[-1] == 3 else "minisblack"
    tiff(whole, **settings)(tmp_path / "a.tif")
    assert stored(tmp_path / "a.tif")[1].further


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize(
    ("values", "none"),
    [
        (GREY16, "7"),
        (GREY16.astype(np.int16), "-32768"),
        (GREY16 / 65535, "nan"),
        (GREY8 / 255, "-3.4e38"),
        (RGB16, "7"),
    ],
    ids=["16 bits", "signed", "not a number", "float", "RGB"],
)
def test_a_value_that_the_file_declares_as_missing_becomes_0(tmp_path, values, none, planes):
    values = values.astype(np.float32) if values.dtype == np.float64 else values.copy()
    rest = values[1:].astype(float)
    values[0] = np.array(float(none)).astype(values.dtype)
    settings = {"photometric": "rgb" if values.ndim == 3 else "minisblack", "extratags": [(42113, "s", 0, none, True)]}
    if planes:  # read by tifffile
        values = np.moveaxis(values, -1, 0) if values.ndim == 3 else np.stack([values, values])
        settings |= {"planarconfig": "separate"} | ({} if len(values) == 3 else {"extrasamples": ["unspecified"]})
    tiff(values, **settings)(tmp_path / "a.tif")
    pixels, image_info = stored(tmp_path / "a.tif")
    assert pixels[0].max() == 0
    np.testing.assert_array_equal(pixels[1:], colours(files.scaled(rest, image_info.deep.white)))
    assert (image_info.deep.low, image_info.deep.high) == (np.float32(rest.min()), np.float32(rest.max()))


def test_deep_images_take_little_more_memory_than_their_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("sslpipe.decoding.deep_image.STRIP_PIXELS", 1 << 12)
    row = np.random.default_rng(0).integers(0, 256, (1, 8 * 512), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png(np.repeat(row, 512, 0), 16, 6, width=512))
    tracemalloc.start()
    try:
        decode(tmp_path / "a.png", size=8, channels=3)
        assert tracemalloc.get_traced_memory()[1] < 24 * 512 * 512
    finally:
        tracemalloc.stop()


def test_a_photo_in_cmyk_of_adobe_with_a_profile(tmp_path):
    icc = cmyk_profile()
    segment = b"\xff\xe2" + struct.pack(">H", len(icc) + 16) + b"ICC_PROFILE\0\1\1" + icc
    whole = files.jpeg([0, 255, 255, 255], adobe=0)  # full cyan, inverted
    (tmp_path / "a.jpg").write_bytes(whole[:2] + segment + whole[2:])
    np.testing.assert_allclose(stored(tmp_path / "a.jpg")[0], 118, atol=2)


# Whatever is damaged.


def damaged(folder, count, seed):
    """Files of all kinds with flipped bits, or cut."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
    whole = {}
    for i, row in enumerate(PIXELS):
        row.write(folder / f"whole.{row.suffix}")
        whole[f"{i}.{row.suffix}"] = (folder / f"whole.{row.suffix}").read_bytes()
        (folder / f"whole.{row.suffix}").unlink()
    options = {f"{name}.tif": {"format": "TIFF", "compression": name} for name in ("tiff_lzw", "tiff_deflate", "jpeg")}
    options |= {f"a.{name}": {"format": name} for name in ("webp", "avif", "jpeg", "gif", "tga", "qoi", "sgi", "ico")}
    options["a.jp2"] = {"format": "JPEG2000"}
    for name, settings in options.items():
        buffer = BytesIO()
        noise.save(buffer, **settings)
        whole[name] = buffer.getvalue()
    names = list(whole)
    paths = []
    for i in range(count):
        name = names[i % len(names)]
        content = bytearray(whole[name])
        if rng.random() < 0.25:
            content = content[: rng.integers(1, len(content))]
        else:
            end = min(len(content), 200) if rng.random() < 0.6 else len(content)
            for place in rng.integers(0, end, rng.integers(1, 12)):
                content[place] ^= 1 << rng.integers(8)
        paths.append(folder / f"{i}-{name}")
        paths[-1].write_bytes(bytes(content))
    return paths


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_are_decoded_or_have_a_reason_of_one_line(tmp_path, capfd, seed):
    paths = damaged(tmp_path, 100, seed)
    with warnings.catch_warnings(action="error"):
        chunk = decode_chunk(np.arange(100), paths, Form(size=8, channels=3))
    assert len(chunk.images) == len(chunk.index) == len(chunk.image_info)
    assert sorted([*chunk.index.tolist(), *chunk.broken]) == list(range(100))
    assert 5 < len(chunk.broken) < 95
    for reason in chunk.broken.values():
        assert reason.strip()
        assert "\n" not in reason
        assert str(tmp_path) not in reason
    assert capfd.readouterr() == ("", "")
