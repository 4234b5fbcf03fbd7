"""No warning of Pillow, tifffile or libtiff reaches the terminal, from any process of any command that decodes."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from sslpipe.data.store import StoreInfo
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import save_model
from sslpipe.nets.network import BackboneSettings, Network

sys.path.insert(0, str(Path(__file__).parents[1]))
import hostile
import pixel_files as files

PARAMS = "prepare: {source: folder, folder: {path: noisy}, size: 8, channels: 1, test: 0.0, held_out: 0.0}"


def fill(folder):
    """300 good images, and files of every kind that something is said of."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for i in range(300):
        Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "bomb.png").write_bytes(hostile.png(10_000, 10_000, b""))
    (folder / "bigger bomb.png").write_bytes(hostile.png(60_000, 60_000, b""))
    cut = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI", 2, 0x0112, 3, 1) + b"\6\0"
    Image.fromarray(noise).save(folder / "exif.jpg", exif=cut)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg"):
        Image.fromarray(noise).save(folder / "whole.tif", compression=compression)
        content = bytearray((folder / "whole.tif").read_bytes())
        for damage in range(6):
            content[rng.integers(8, len(content))] ^= 255
            (folder / f"{compression}-{damage}.tif").write_bytes(bytes(content))
        (folder / f"{compression}-cut.tif").write_bytes(bytes(content[:-500]))
    (folder / "whole.tif").unlink()
    for place in range(10, 60, 3):
        content = bytearray(_tiff(folder))
        content[place] ^= 64
        (folder / f"tags-{place}.tif").write_bytes(bytes(content))
    palette = [files.PLTE, files.chunk(b"tRNS", b"\xff\x80\x40\x00")]
    (folder / "palette.png").write_bytes(files.png(files.INDEX, 8, 3, palette))
    samples = files.plain_tiff(bytes(300), 8, 1).replace(
        struct.pack("<HHII", 277, 4, 1, 1), struct.pack("<HHII", 277, 4, 1, 90)
    )
    (folder / "samples.tif").write_bytes(samples)
    return folder


def _tiff(folder):
    tifffile.imwrite(folder / "t.tif", files.RGB16, photometric="rgb")
    content = (folder / "t.tif").read_bytes()
    (folder / "t.tif").unlink()
    return content


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quiet")
    fill(folder / "noisy")
    (folder / "params.yaml").write_text(PARAMS)
    info = StoreInfo(
        size=8, channels=1, mean=(0.5,), std=(0.2,), train=8, held_out=2, test=2, protocol="split", fingerprint="f" * 64
    )
    network = Network(BackboneSettings(name="tiny_resnet"), None, mean=info.mean, std=info.std, channels=1)
    save_model(folder / "model", network, card_for("pretrain", info, {}, parent=None))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("prepare", "--workers", "1"),
        ("prepare", "--workers", "2"),
        ("init", "project", "--images", "noisy", "--from-scratch"),
        ("predict", "model", "noisy", "--neighbors", "0", "--workers", "1"),
        ("predict", "model", "noisy", "--neighbors", "0", "--workers", "2", "--out", "second.csv"),
    ],
    ids=" ".join,
)
def test_the_terminal_has_no_warning(noisy, sslpipe, command, warm_bin):
    if command == ("prepare", "--workers", "2"):  # with all that is printed while modules are loaded
        done = sslpipe(*command, cwd=noisy)
    else:
        done = subprocess.run([warm_bin / "sslpipe", *command], cwd=noisy, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    assert "arning" not in done.stdout
    assert os.sep + "site-packages" not in done.stdout
