"""The range of values from init to predict: found, written, kept in the model's card, and used again."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.model_paths import CARD
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.tools.autoconfig import settings_for
from sslpipe.tools.export_about import _depth
from sslpipe.tools.folder_summary import scan_folder
from sslpipe.tools.lineage import trace
from sslpipe.tools.predict import Files, Predictor, predict
from sslpipe.tools.yaml_text import laid_out

RNG = np.random.default_rng(5)
INFO = StoreInfo(
    size=8, channels=1, mean=(0.5,), std=(0.2,), train=8, held_out=2, test=2, protocol="split", fingerprint="f" * 64,
    value_range=(0.0, 4095.0),
)  # fmt: skip


def images_of(folder, low, high, dtype, count=40):
    folder.mkdir()
    for i in range(count):
        values = RNG.uniform(low, high, (8, 8))
        values[0, :2] = low, high
        tifffile.imwrite(folder / f"{i}.tif", values.astype(dtype), photometric="minisblack")
    return folder


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (20, 4011, np.uint16, "[0, 4095] # values become 0 and 255; 40 of 40 sampled images have 20 to 4011"),
        (20, 800, np.uint16, "[0, 1023]"),
        (20, 60_000, np.uint16, "[0, 65535]"),
        (-1000, 2900, np.int16, "[-1000, 2900]"),
        (0, 1, np.float32, "[0, 1]"),
        (-0.5, 0.25, np.float32, "[-0.5, 0.25]"),
    ],
)
def test_init_finds_the_range_and_writes_it_with_its_reason(tmp_path, low, high, dtype, expected):
    summary = scan_folder(images_of(tmp_path / "images", low, high, dtype), None)
    assert (summary.deep, summary.values.low, summary.values.high) == (40, low, high)
    text = laid_out(settings_for("own-images-cpu", summary, "images", None))
    assert f"  value_range: {expected}" in text


@pytest.mark.parametrize("declared", [True, False])
def test_a_missing_value_is_no_part_of_the_range(tmp_path, declared):
    (tmp_path / "images").mkdir()
    for i in range(40):
        values = RNG.uniform(0, 300, (8, 8)).astype(np.float32)
        values[0, :3] = 0, 300, -3.4028234663852886e38
        tags = [(42113, "s", 0, "-3.4028234663852886e+38", True)] if declared else []
        tifffile.imwrite(tmp_path / f"images/{i}.tif", values, photometric="minisblack", extratags=tags)
    text = laid_out(settings_for("own-images-cpu", scan_folder(tmp_path / "images", None), "images", None))
    assert "  value_range: [0, 300] # " in text


def test_init_writes_no_range_for_images_of_8_bits(tmp_path):
    summary = scan_folder(images_of(tmp_path / "images", 0, 255, np.uint8), None)
    assert summary.values is None
    assert "value_range" not in laid_out(settings_for("own-images-cpu", summary, "images", None))


def test_one_deep_image_in_the_sample_is_enough(tmp_path):
    folder = images_of(tmp_path / "images", 0, 255, np.uint8)
    tifffile.imwrite(folder / "7.tif", np.full((8, 8), 900, np.uint16), photometric="minisblack")
    summary = scan_folder(folder, None)
    assert summary.deep == 1
    assert "value_range: [0, 1023]" in laid_out(settings_for("own-images-cpu", summary, "images", None))


def test_when_all_of_a_sample_fail_the_commonest_reason_is_said(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.png").write_text("no image")
    (tmp_path / "5.dng").write_bytes(b"raw")
    with pytest.raises(UserError, match=r" of 6 sampled .* decoded, 5 of them because: not an image that"):
        scan_folder(tmp_path, None)
    Image.fromarray(RNG.integers(0, 255, (50, 50), dtype=np.uint8)).save(tmp_path / "6.png")
    (tmp_path / "6.png").write_bytes((tmp_path / "6.png").read_bytes()[:-600])
    with pytest.raises(UserError, match=r"none of 7 sampled .* decoded, 5 of them because: not an image"):
        scan_folder(tmp_path, None)


def make_model(folder, info=INFO):
    network = Network(BackboneSettings(name="tiny_resnet"), None, mean=info.mean, std=info.std, channels=1)
    save_model(folder, network, card_for("pretrain", info, {}, parent=None))
    return folder


def test_the_range_is_in_the_card_of_a_model_and_old_cards_load(tmp_path):
    folder = make_model(tmp_path / "runs/pretrain")
    assert load_model(folder)[1].value_range == (0.0, 4095.0)
    assert trace(folder).metadata["value_range"] == [0.0, 4095.0]
    assert "from 0 to 4095 to 0 to 255" in _depth(load_model(folder)[1])
    content = json.loads((folder / CARD).read_text())
    del content["value_range"]
    (folder / CARD).write_text(json.dumps(content))
    card = load_model(folder)[1]
    assert card.value_range is None
    assert "value_range" not in trace(folder).metadata
    save_model(tmp_path / "again", load_model(folder)[0], card)
    assert "value_range" not in json.loads((tmp_path / "again" / CARD).read_text())


def test_predict_keeps_to_the_range_of_the_model(tmp_path, monkeypatch):
    network, card = load_model(make_model(tmp_path / "model"))
    seen = []

    def features(self, images):
        seen.append(images.copy())
        return torch.zeros(len(images), 4)

    monkeypatch.setattr(Predictor, "features", features)
    folder = tmp_path / "new"
    folder.mkdir()
    values = RNG.integers(0, 4096, (8, 8)).astype(np.uint16)
    tifffile.imwrite(folder / "0.tif", values, photometric="minisblack")
    tifffile.imwrite(folder / "1.tif", values + np.uint16(500), photometric="minisblack")
    predictor = Predictor(network, card, torch.device("cpu"))
    summary = predict(predictor, Files([folder]), tmp_path / "out.csv", workers=1)
    (images,) = seen
    np.testing.assert_array_equal(images[0, 0], np.rint(values / 4095 * 255))
    assert (summary.images, summary.clipped, summary.broken) == (2, 1, {})


def test_predict_takes_larger_images_if_it_is_told_to(tmp_path):
    network, card = load_model(make_model(tmp_path / "model"))
    (tmp_path / "new").mkdir()
    Image.new("L", (20, 20), 9).save(tmp_path / "new/0.png")
    predictor, out = Predictor(network, card, torch.device("cpu")), tmp_path / "out.csv"
    assert predict(predictor, Files([tmp_path / "new"]), out, workers=1, max_pixels=400).broken == {}
    (reason,) = predict(predictor, Files([tmp_path / "new"]), out, workers=1, max_pixels=399).broken.values()
    assert "--max-pixels" in reason


def test_predict_does_not_take_the_thumbnail_of_a_raw_file(tmp_path):
    network, card = load_model(make_model(tmp_path / "model"))
    tifffile.imwrite(tmp_path / "a.nef", np.zeros((8, 8), np.uint8), photometric="minisblack")
    predictor = Predictor(network, card, torch.device("cpu"))
    summary = predict(predictor, Files([tmp_path / "a.nef"]), tmp_path / "out.csv", workers=1)
    assert "raw camera file" in summary.broken[str(tmp_path / "a.nef")]
    assert [entry.name for entry in Files([tmp_path]).entries] == [str(tmp_path / "a.nef")]
