"""Image files written without Pillow: by tifffile, or byte by byte. PIXELS lists them with what is to be stored."""

import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

sys.path.insert(0, str(Path(__file__).parent))
from heic_files import heic

RNG = np.random.default_rng(12)
SIDE = 4
GREY8 = RNG.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
RGB8 = RNG.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
GREY16 = RNG.integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)
RGB16 = RNG.integers(0, 65536, (SIDE, SIDE, 3)).astype(np.uint16)
ALPHA8 = np.array([[0, 255] * 2] * SIDE, np.uint8)
"""Every second column is opaque; the others are invisible, so that the result is exact."""
ALPHA16 = ALPHA8.astype(np.uint16) * 257
VISIBLE = ALPHA8[..., None] == 255


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(rows, bits, kind, extra=(), *, width=SIDE, interlace=False):
    """A PNG file of rows [H, bytes]; kind: 0 grey, 2 colour, 3 palette, 4 grey and alpha, 6 colour and alpha."""
    rows = np.asarray(rows)
    head = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, interlace)
    if interlace:
        step = rows.shape[1] // width
        cells = rows.reshape(len(rows), width, step)
        starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        passes = [cells[top::down, left::right] for top, left, down, right in starts]
        data = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    else:
        data = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def big(values):
    """Values of 16 bits [H, ...] as rows of bytes, the upper one first."""
    values = np.asarray(values, ">u2")
    return values.reshape(len(values), -1).view(np.uint8)


def packed(values, bits):
    """Values of 1, 2 or 4 bits [H, W] as rows of bytes."""
    return np.packbits(np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(len(values), -1), axis=1)


def tiff(values, **settings):
    def write(path):
        tifffile.imwrite(path, values, **{"photometric": "minisblack", **settings})

    return write


def plain_tiff(data, bits, photometric, *extra):
    """A TIFF of one strip, with the content as it is packed into it, and further entries of 12 bytes."""
    start = 8 + 2 + 12 * (9 + len(extra)) + 4
    tags = [(256, SIDE), (257, SIDE), (258, bits), (259, 1), (262, photometric), (273, start), (277, 1), (278, SIDE)]
    tags.append((279, len(data)))
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
    entries = sorted([*entries, *extra], key=lambda entry: struct.unpack("<H", entry[:2]))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + struct.pack("<I", 0) + data


def twelve_bits(values):
    """Rows of values of 12 bits, packed: three bytes for two values."""
    first, second = values[:, ::2].astype(int), values[:, 1::2].astype(int)
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()


def jpeg(samples, adobe=None):
    """A JPEG of one block of 8 x 8 pixels, with one value for each of 1, 3 or 4 components; exact."""
    count = len(samples)
    ids = range(1, count + 1)
    head = [
        (0xDB, b"\0" + bytes([8] * 64)),
        (0xC0, struct.pack(">BHHB", 8, 8, 8, count) + b"".join(bytes([i, 0x11, 0]) for i in ids)),
        (0xC4, b"\0" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12))),
        (0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"),
        (0xDA, bytes([count]) + b"".join(bytes([i, 0]) for i in ids) + b"\0\x3f\0"),
    ]
    if adobe is not None:
        head.insert(0, (0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe])))
    bits = ""
    for value in samples:
        difference = int(value) - 128
        size = abs(difference).bit_length()
        code = difference if difference > 0 else difference + (1 << size) - 1
        bits += f"{size:04b}" + (f"{code:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    segments = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in head)
    return b"\xff\xd8" + segments + data + b"\xff\xd9"


def fits(values, **cards):
    """A FITS file, whose rows begin at the bottom."""
    bits = values.dtype.itemsize * (8 if values.dtype.kind != "f" else -8)
    cards = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": SIDE, "NAXIS2": SIDE, **cards}
    head = "".join(f"{name:8}= {value:>20}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    data = values[::-1].astype(values.dtype.newbyteorder(">")).tobytes()
    return head.ljust(2880).encode() + data.ljust(2880, b"\0")


def bmp(values):
    """A BMP of 24 bits, whose rows begin at the bottom; blue comes first."""
    data = values[::-1, :, ::-1].tobytes()
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54 + len(data), 0, 54, 40, SIDE, SIDE, 1, 24, 0, 0, 0, 0, 0, 0) + data


def gif(index, palette, transparent=None, frames=1):
    """A GIF of 4 colours; each code is written out, with a clear code before each pixel."""
    out = b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0x81, 0, 0) + palette.astype(np.uint8).tobytes()
    codes = [code for value in index.ravel().tolist() for code in (4, value)] + [5]
    bits = "".join(f"{code:03b}"[::-1] for code in codes)
    bits += "0" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    for _ in range(frames):
        if transparent is not None:
            out += b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
        out += b"\x2c" + struct.pack("<HHHHB", 0, 0, SIDE, SIDE, 0) + b"\x02" + bytes([len(data)]) + data + b"\0"
    return out + b"\x3b"


@dataclass(frozen=True)
class Row:
    """One kind of file: a row of the table in docs/pixels.md."""

    format: str
    depth: str
    mode: str
    stored: str
    """What is stored, in words."""
    suffix: str
    write: Callable[[Path], Any]
    expected: Any
    """[H, W] or [H, W, 3], 0 to 255, without a range of values."""
    values: Any = None
    """The values of a deep image, [H, W] or [H, W, S]; None for others."""
    inverted: bool = False
    further: bool = False
    tolerance: int = 0

    @property
    def name(self):
        return f"{self.format}, {self.depth}, {self.mode}"

    def line(self):
        return f"| {self.format} | {self.depth} | {self.mode} | {self.stored} |"

    def ranged(self, low, high):
        """What is to be stored with a range of values."""
        share = (np.asarray(self.values, np.float64) - low) / (high - low)
        shown = np.rint(255 * np.clip(share, 0, 1))
        return 255 - shown if self.inverted else shown


def content(data):
    return lambda path: path.write_bytes(data)


def scaled(values, white):
    return np.rint(np.clip(np.asarray(values, np.float64) / white, 0, 1) * 255)


def on_white(values):
    """Values [H, W, 3] on white, where the even columns are invisible."""
    return np.where(VISIBLE, values, 255)


def rgb(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=-1)


def _bits(bits):
    return (GREY8 >> (8 - bits)).astype(np.uint8)


PALETTE = np.array([[200, 10, 20], [5, 90, 7], [250, 250, 0], [30, 60, 120]], np.uint8)
INDEX = RNG.integers(0, 4, (SIDE, SIDE)).astype(np.uint8)
PLTE = chunk(b"PLTE", PALETTE.tobytes())
SIGNED16 = RNG.integers(-3000, 32768, (SIDE, SIDE)).astype(np.int16)
SIGNED8 = RNG.integers(-128, 128, (SIDE, SIDE)).astype(np.int8)
INT32 = RNG.integers(0, 65536, (SIDE, SIDE)).astype(np.int32)
FLOAT = RNG.uniform(0, 1, (SIDE, SIDE)).astype(np.float32)
FLOATS = RNG.uniform(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
CMYK8 = np.stack([RGB8[..., 0], RGB8[..., 1], RGB8[..., 2], np.zeros_like(GREY8)], -1)
CMYK16 = CMYK8.astype(np.uint16) * 257
HALF = np.float16(FLOAT)
TEN, TWELVE = GREY16 >> 6, GREY16 >> 4
V257 = "value / 257"
PIXELS = [
    Row("PNG", "1 bit", "grey", "0 or 255", "png", content(png(packed(_bits(1), 1), 1, 0)), _bits(1) * 255),
    Row("PNG", "2 bits", "grey", "value × 85", "png", content(png(packed(_bits(2), 2), 2, 0)), _bits(2) * 85),
    Row("PNG", "4 bits", "grey", "value × 17", "png", content(png(packed(_bits(4), 4), 4, 0)), _bits(4) * 17),
    Row("PNG", "8 bits", "grey", "as it is", "png", content(png(GREY8, 8, 0)), GREY8),
    Row("PNG", "16 bits", "grey", V257, "png", content(png(big(GREY16), 16, 0)), scaled(GREY16, 65535), GREY16),
    Row(
        "PNG", "2 bits", "grey, one transparent", "on its ground", "png",
        content(png(packed(INDEX, 2), 2, 0, [chunk(b"tRNS", struct.pack(">H", 3))])),
        np.where(INDEX == 3, 255, INDEX * 85),
    ),
    Row(
        "PNG", "16 bits", "grey, one transparent", f"{V257}, on its ground", "png",
        content(png(big(GREY16), 16, 0, [chunk(b"tRNS", struct.pack(">H", GREY16[1, 2]))])),
        np.where(GREY16[1, 2] == GREY16, 255, scaled(GREY16, 65535)),
    ),
    Row(
        "PNG", "8 bits", "grey and alpha", "on its ground", "png",
        content(png(np.stack([GREY8, ALPHA8], -1).reshape(SIDE, -1), 8, 4)), on_white(rgb(GREY8)),
    ),
    Row(
        "PNG", "16 bits", "grey and alpha", f"{V257}, on its ground", "png",
        content(png(big(np.stack([GREY16, ALPHA16], -1)), 16, 4)), on_white(rgb(scaled(GREY16, 65535))),
    ),
    Row("PNG", "8 bits", "RGB", "as it is", "png", content(png(RGB8.reshape(SIDE, -1), 8, 2)), RGB8),
    Row("PNG", "16 bits", "RGB", V257, "png", content(png(big(RGB16), 16, 2)), scaled(RGB16, 65535), RGB16),
    Row(
        "PNG", "16 bits", "RGB, interlaced", V257, "png",
        content(png(big(RGB16), 16, 2, interlace=True)), scaled(RGB16, 65535), RGB16,
    ),
    Row(
        "PNG", "16 bits", "RGB, one transparent", f"{V257}, on its ground", "png",
        content(png(big(RGB16), 16, 2, [chunk(b"tRNS", struct.pack(">HHH", *RGB16[2, 1].tolist()))])),
        np.where((RGB16[2, 1] == RGB16).all(-1, keepdims=True), 255, scaled(RGB16, 65535)),
    ),
    Row(
        "PNG", "8 bits", "RGBA", "on its ground", "png",
        content(png(np.dstack([RGB8, ALPHA8]).reshape(SIDE, -1), 8, 6)), on_white(RGB8),
    ),
    Row(
        "PNG", "16 bits", "RGBA", f"{V257}, on its ground", "png",
        content(png(big(np.dstack([RGB16, ALPHA16])), 16, 6)), on_white(scaled(RGB16, 65535)),
    ),
    Row("PNG", "2 bits", "palette", "its colour", "png", content(png(packed(INDEX, 2), 2, 3, [PLTE])), PALETTE[INDEX]),
    Row("PNG", "8 bits", "palette", "its colour", "png", content(png(INDEX, 8, 3, [PLTE])), PALETTE[INDEX]),
    Row(
        "PNG", "8 bits", "palette, one transparent", "its colour, on its ground", "png",
        content(png(INDEX, 8, 3, [PLTE, chunk(b"tRNS", b"\xff\x00")])),
        np.where((INDEX == 1)[..., None], 255, PALETTE[INDEX]),
    ),
    Row("TIFF", "1 bit", "grey", "0 or 255", "tif", tiff(_bits(1).astype(bool)), _bits(1) * 255),
    Row(
        "TIFF", "1 bit", "white is zero", "0 or 255, inverted", "tif",
        tiff(_bits(1).astype(bool), photometric="miniswhite"), 255 - _bits(1) * 255,
    ),
    Row("TIFF", "8 bits", "grey", "as it is", "tif", tiff(GREY8), GREY8),
    Row("TIFF", "8 bits", "white is zero", "255 - value", "tif", tiff(GREY8, photometric="miniswhite"), 255 - GREY8),
    Row("TIFF", "8 bits, signed", "grey", "value × 255 / 127", "tif", tiff(SIGNED8), scaled(SIGNED8, 127), SIGNED8),
    Row(
        "TIFF", "12 bits, packed", "grey", "value × 255 / 4095", "tif",
        content(plain_tiff(twelve_bits(TWELVE), 12, 1)), scaled(TWELVE, 4095), TWELVE,
    ),
    Row("TIFF", "16 bits", "grey", V257, "tif", tiff(GREY16), scaled(GREY16, 65535), GREY16),
    Row(
        "TIFF", "16 bits, big-endian", "grey", V257, "tif", tiff(GREY16, byteorder=">"), scaled(GREY16, 65535), GREY16,
    ),
    Row(
        "TIFF", "16 bits", "white is zero", "255 - value / 257", "tif",
        tiff(GREY16, photometric="miniswhite"), 255 - scaled(GREY16, 65535), GREY16, inverted=True,
    ),
    Row(
        "TIFF", "16 bits, big-endian", "white is zero", "255 - value / 257", "tif",
        tiff(GREY16, photometric="miniswhite", byteorder=">"), 255 - scaled(GREY16, 65535), GREY16, inverted=True,
    ),
    Row(
        "TIFF", "16 bits, signed", "grey", "value × 255 / 32767", "tif",
        tiff(SIGNED16), scaled(SIGNED16, 32767), SIGNED16,
    ),
    Row("TIFF", "32 bits", "grey", V257, "tif", tiff(INT32.astype(np.uint32)), scaled(INT32, 65535), INT32),
    Row("TIFF", "32 bits, signed", "grey", V257, "tif", tiff(INT32), scaled(INT32, 65535), INT32),
    Row("TIFF", "16 bits, float", "grey", "value × 255", "tif", tiff(HALF), scaled(HALF, 1), HALF),
    Row("TIFF", "32 bits, float", "grey", "value × 255", "tif", tiff(FLOAT), scaled(FLOAT, 1), FLOAT),
    Row(
        "TIFF", "64 bits, float", "grey", "value × 255", "tif",
        tiff(FLOAT.astype(np.float64)), scaled(FLOAT, 1), FLOAT,
    ),
    Row(
        "TIFF", "8 bits", "grey and alpha", "on its ground", "tif",
        tiff(np.dstack([GREY8, ALPHA8]), extrasamples=["unassalpha"]), on_white(rgb(GREY8)),
    ),
    Row(
        "TIFF", "8 bits", "grey times alpha", "on its ground", "tif",
        tiff(np.dstack([GREY8 * (ALPHA8 // 255), ALPHA8]), extrasamples=["assocalpha"]), on_white(rgb(GREY8)),
    ),
    Row(
        "TIFF", "16 bits", "grey and alpha", f"{V257}, on its ground", "tif",
        tiff(np.dstack([GREY16, ALPHA16]), extrasamples=["unassalpha"]), on_white(rgb(scaled(GREY16, 65535))),
    ),
    Row("TIFF", "8 bits", "RGB", "as it is", "tif", tiff(RGB8, photometric="rgb"), RGB8),
    Row(
        "TIFF", "8 bits", "RGB, planes", "as it is", "tif",
        tiff(RGB8.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"), RGB8,
    ),
    Row("TIFF", "16 bits", "RGB", V257, "tif", tiff(RGB16, photometric="rgb"), scaled(RGB16, 65535), RGB16),
    Row(
        "TIFF", "16 bits, big-endian", "RGB", V257, "tif",
        tiff(RGB16, photometric="rgb", byteorder=">"), scaled(RGB16, 65535), RGB16,
    ),
    Row(
        "TIFF", "16 bits, deflated", "RGB", V257, "tif",
        tiff(RGB16, photometric="rgb", compression="zlib", predictor=True), scaled(RGB16, 65535), RGB16,
    ),
    Row(
        "TIFF", "16 bits", "RGB, planes", V257, "tif",
        tiff(RGB16.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
        scaled(RGB16, 65535), RGB16,
    ),
    Row(
        "TIFF", "32 bits, float", "RGB", "value × 255", "tif",
        tiff(FLOATS, photometric="rgb"), scaled(FLOATS, 1), FLOATS,
    ),
    Row(
        "TIFF", "16 bits", "RGBA", f"{V257}, on its ground", "tif",
        tiff(np.dstack([RGB16, ALPHA16]), photometric="rgb", extrasamples=["unassalpha"]),
        on_white(scaled(RGB16, 65535)),
    ),
    Row(
        "TIFF", "16 bits", "RGB times alpha", f"{V257}, on its ground", "tif",
        tiff(np.dstack([RGB16 * VISIBLE, ALPHA16]), photometric="rgb", extrasamples=["assocalpha"]),
        on_white(scaled(RGB16, 65535)),
    ),
    Row("TIFF", "8 bits", "CMYK", "1 - ink", "tif", tiff(CMYK8, photometric="separated"), 255 - RGB8),
    Row("TIFF", "16 bits", "CMYK", "1 - ink", "tif", tiff(CMYK16, photometric="separated"), 255 - RGB8),
    Row(
        "TIFF", "8 bits", "palette", "its colour", "tif",
        tiff(INDEX, photometric="palette", colormap=np.pad(PALETTE.T.astype(np.uint16) * 257, ((0, 0), (0, 252)))),
        PALETTE[INDEX],
    ),
    Row(
        "TIFF", "8 bits", "CIE L*a*b*", "converted to sRGB", "tif",
        tiff(np.dstack([GREY8 * 0 + 255, GREY8 * 0, GREY8 * 0]), photometric="cielab"), GREY8 * 0 + 255,
        tolerance=1,
    ),
    Row(
        "TIFF", "16 bits", "several channels", f"{V257}, the first channel", "tif",
        tiff(np.stack([GREY16] + [GREY16 * 0] * 4), planarconfig="separate"),
        scaled(GREY16, 65535), GREY16, further=True,
    ),
    Row(
        "TIFF", "16 bits", "several pages", f"{V257}, the first page", "tif",
        tiff(np.stack([GREY16, GREY16 * 0, GREY16 * 0])), scaled(GREY16, 65535), GREY16, further=True,
    ),
    Row(
        "TIFF", "16 bits", "stack of ImageJ", f"{V257}, the first image", "tif",
        tiff(np.stack([GREY16, GREY16 * 0]), imagej=True), scaled(GREY16, 65535), GREY16, further=True,
    ),
    Row(
        "TIFF", "16 bits", "volume", f"{V257}, the first slice", "tif",
        tiff(np.stack([GREY16, GREY16 * 0]), volumetric=True), scaled(GREY16, 65535), GREY16, further=True,
    ),
    Row("JPEG", "8 bits", "grey", "as it is", "jpg", content(jpeg([77])), np.full((SIDE, SIDE), 77)),
    Row(
        "JPEG", "8 bits", "YCbCr", "RGB", "jpg",
        content(jpeg([90, 128, 178])), np.full((SIDE, SIDE, 3), [160, 54, 90]),
    ),
    Row(
        "JPEG", "8 bits", "CMYK, inverted (Adobe)", "1 - ink", "jpg",
        content(jpeg([55, 155, 255, 255], adobe=0)), np.full((SIDE, SIDE, 3), [55, 155, 255]),
    ),
    Row("BMP", "8 bits", "RGB", "as it is", "bmp", content(bmp(RGB8)), RGB8),
    Row("GIF", "8 bits", "palette", "its colour", "gif", content(gif(INDEX, PALETTE)), PALETTE[INDEX]),
    Row(
        "GIF", "8 bits", "palette, one transparent", "its colour, on its ground", "gif",
        content(gif(INDEX, PALETTE, transparent=2)), np.where((INDEX == 2)[..., None], 255, PALETTE[INDEX]),
    ),
    Row(
        "GIF", "8 bits", "several frames", "the first frame", "gif",
        content(gif(INDEX, PALETTE, frames=3)), PALETTE[INDEX], further=True,
    ),
    Row("PGM", "8 bits", "grey", "as it is", "pgm", content(b"P5 4 4 255\n" + GREY8.tobytes()), GREY8),
    Row(
        "PGM", "12 bits", "grey", "value × 255 / its maximum", "pgm",
        content(b"P5 4 4 4095\n" + big(TWELVE).tobytes()), scaled(TWELVE, 4095),
    ),
    Row(
        "PGM", "16 bits", "grey", V257, "pgm", content(b"P5 4 4 65535\n" + big(GREY16).tobytes()),
        scaled(GREY16, 65535), GREY16,
    ),
    Row("PPM", "8 bits", "RGB", "as it is", "ppm", content(b"P6 4 4 255\n" + RGB8.tobytes()), RGB8),
    Row(
        "PFM", "32 bits, float", "grey", "value × 255", "pfm",
        content(b"Pf\n4 4\n-1.0\n" + FLOAT[::-1].astype("<f4").tobytes()), scaled(FLOAT, 1), FLOAT,
    ),
    Row("FITS", "8 bits", "grey", "as it is", "fits", content(fits(GREY8)), GREY8),
    Row(
        "FITS", "16 bits, signed", "grey", "value × 255 / 32767", "fits",
        content(fits(SIGNED16)), scaled(SIGNED16, 32767), SIGNED16,
    ),
    Row(
        "FITS", "16 bits", "grey", V257, "fits",
        content(fits((GREY16 ^ 0x8000).view(np.int16), BZERO=32768)), scaled(GREY16, 65535), GREY16,
    ),
    Row("FITS", "32 bits, float", "grey", "value × 255", "fits", content(fits(FLOAT)), scaled(FLOAT, 1), FLOAT),
    Row("HEIC", "8 bits", "grey", "as it is", "heic", content(heic(GREY8)), GREY8),
    Row(
        "HEIC", "10 bits", "grey", "value × 255 / 1023", "heic",
        content(heic(TEN, depth=10)), scaled(TEN, 1023), TEN,
    ),
    Row("HEIC", "8 bits", "RGB", "as it is", "heic", content(heic(RGB8)), RGB8),
    Row("HEIC", "10 bits", "RGB", "the upper 8 bits", "heic", content(heic(RGB16 >> 6, depth=10)), RGB16 >> 8),
    Row("HEIC", "8 bits", "RGBA", "on its ground", "heic", content(heic(RGB8, alpha=ALPHA8)), on_white(RGB8)),
    Row("HEIC", "8 bits", "several images", "the primary image", "heic",
        content(heic(255 - RGB8, RGB8, primary=1)), RGB8, further=True,
    ),
]  # fmt: skip
"""One file of each kind, of 4 x 4 pixels; 8 x 8 for JPEG."""
