"""A folder of files that are not what they seem, and of some that are unusual but good."""

import os
import stat
import struct
import tempfile
import zlib
from functools import cache

import numpy as np
from PIL import Image

LONG_NAME = f"{'l' * 251}.png"
TEXT = "not an image that Pillow reads"
GONE = "No such file or directory"
BROKEN = {
    "empty.jpg": "an empty file found, expected an image",
    "text.jpg": TEXT,
    "text.png": TEXT,
    "page.gif": "HTML, XML or SVG found, expected an image",
    "cut.jpg": "truncated",
    "cut.png": "truncated",
    "cut.tif": "",
    "noise.webp": TEXT,
    "bomb.png": "3600000000 pixels, more than the 178956970 of prepare.max_pixels",
    "bomb.bmp": "900000000 pixels, more than the 178956970 of prepare.max_pixels",
    "large-cut.png": "truncated",
    "nan.tiff": "no finite value among its float32 values",
    "pipe.png": "Is a pipe",
    "socket.png": "Is a socket",
    "device.png": "Is a device",
    "to-pipe.png": "Is a pipe",
    "gone.png": GONE,
    "circle.png": "Too many levels of symbolic links",
    "new\nline.png": TEXT,
    "with space, 'quotes\" and = signs.png": TEXT,
    "猫 кот.png": TEXT,
    "\u202egnp.png": TEXT,
    "no utf-8 \udce9\udcff.png": TEXT,
    LONG_NAME: TEXT,
}
"""Name → why it is left out, or part of that."""
CLOSED = {"closed.png": "Permission denied"}
"""Likewise, unless one reads everything."""
GOOD = ["16-bit.png", "cmyk.jpg", "palette.png", "moving.gif", "rotated.jpg", "large.png", "folder.jpg/plain.png"]
GREY = np.add.outer(np.arange(0, 128, 8), np.arange(0, 128, 8)).astype(np.uint8)


@cache
def reads_everything():
    """Whether rights do not hold for whoever runs the tests, as for root."""
    with tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0)
        return os.access(file.name, os.R_OK)


def png(width, height, pixels):
    """A PNG file of one bit a pixel; `pixels`: the content as it is packed into it."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def fill(folder):
    """Write all of these into `folder`, with links and other files that mean nothing among them."""
    folder.mkdir(parents=True)
    for name, reason in BROKEN.items():
        if reason == TEXT:
            (folder / name).write_text("this is not an image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.gif").write_text("<!doctype html><title>404</title>")
    (folder / "noise.webp").write_bytes(np.random.default_rng(0).bytes(5000))
    _cut(folder)
    (folder / "bomb.png").write_bytes(png(60_000, 60_000, zlib.compress(bytes(1000))))
    (folder / "bomb.bmp").write_bytes(b"BM" + struct.pack("<IIIIiiHH24x", 54, 0, 54, 40, 30_000, 30_000, 1, 24))
    # Between the sizes that Pillow warns of and that it refuses.
    (folder / "large-cut.png").write_bytes(png(10_000, 10_000, zlib.compress(bytes(1000))))
    (folder / "large.png").write_bytes(png(10_000, 10_000, zlib.compress(bytes(1251 * 10_000), 1)))
    Image.new("F", (2, 2), float("nan")).save(folder / "nan.tiff")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    os.mknod(folder / "socket.png", stat.S_IFSOCK | 0o600)
    for name, target in [
        ("device.png", "/dev/zero"),
        ("to-pipe.png", "pipe"),
        ("gone.png", "nowhere"),
        ("circle.png", "circle.png"),
        ("circle", "../" + folder.name),
        ("up", ".."),
    ]:
        (folder / name).symlink_to(target)
    _good(folder)
    if not reads_everything():
        for name in CLOSED:
            Image.fromarray(GREY).save(folder / name)
            (folder / name).chmod(0)


def _cut(folder):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 200), dtype=np.uint8))
    for name in ("cut.jpg", "cut.png", "cut.tif"):
        image.save(folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])


def _good(folder):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(folder / "16-bit.png")
    Image.fromarray(GREY).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.fromarray(GREY).convert("P").save(folder / "palette.png")
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(GREY)).save(folder / "rotated.jpg", exif=exif, quality=95)
    (folder / "folder.jpg").mkdir()
    Image.fromarray(GREY).save(folder / "folder.jpg" / "plain.png")
