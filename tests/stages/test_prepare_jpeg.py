"""Training on a store of JPEG images, beside one of the pixels that these decode to."""

import json
from pathlib import Path

import numpy as np
import pytest

from sslpipe.data import images
from sslpipe.data.encoded_images import EncodedImages
from sslpipe.data.store import SPLITS, Store
from sslpipe.io.files import sha256
from stages.prepare import prepare
from stages.pretrain import pretrain
from stages.semisup import semisup

PREPARED = Path("runs/prepare")


@pytest.fixture
def jpeg(project):
    prepare(assignments=["store=jpeg"])
    return Store(PREPARED)


def decode_store(store):
    """Write the pixels in the place of the JPEG files."""
    for split in SPLITS:
        pixels = store.images(split)[:]
        (PREPARED / split / "offsets.npy").unlink()
        np.save(PREPARED / split / "images.npy", pixels)
    info = json.loads((PREPARED / "store.json").read_text())
    del info["jpeg_quality"]
    (PREPARED / "store.json").write_text(json.dumps(info))


@pytest.mark.parametrize("resident", [True, False])
def test_training_is_the_same_to_the_last_bit_as_on_the_decoded_pixels(jpeg, monkeypatch, resident):
    monkeypatch.setattr(images, "fits", lambda size, device, free: resident)
    assert isinstance(jpeg.images("train"), EncodedImages)
    found = []
    for convert in (False, True):
        if convert:
            decode_store(jpeg)
            assert isinstance(Store(PREPARED).images("train"), np.ndarray)
        pretrain(epochs=1)
        semisup(method="fixmatch", epochs=1)
        found.append([sha256(Path("runs", name, "model.safetensors")) for name in ("pretrain", "semisup/fixmatch")])
    assert found[0] == found[1]


def test_the_pixels_are_others_than_without_jpeg(jpeg):
    encoded = jpeg.images("train")[:]
    assert json.loads((PREPARED / "report.json").read_text())["broken"] == []
    prepare()
    pixels = Store(PREPARED).images("train")
    assert not (PREPARED / "train/offsets.npy").exists()
    assert encoded.shape == pixels.shape
    assert (encoded != pixels).any()


def test_settings_of_jpeg(project, refused):
    assert refused("prepare", "--set", "store=png") == (
        "error: prepare.store: unknown value 'png'; did you mean 'jpeg'?; known: jpeg, pixels\n"
    )
    assert "prepare.jpeg_quality: 101 is out of range" in refused("prepare", "--set", "jpeg_quality=101")
