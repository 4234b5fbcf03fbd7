"""ONNX Runtime in place of torch, and the memory that the pass needs."""

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from sslpipe.data.images import Images
from sslpipe.data.store import SPLITS
from sslpipe.io.errors import UserError
from sslpipe.nets.inference import infer
from sslpipe.running import feature_runtime
from sslpipe.running.feature_pass import write_features
from sslpipe.running.feature_runtime import FeatureSettings
from sslpipe.running.features import open_features

sys.path.insert(0, str(Path(__file__).parents[1]))
from stored import write_model, write_store

CPU = torch.device("cpu")
MODEL, OUT = Path("runs/pretrain"), Path("runs/features")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = {split: rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8) for split, count in COUNTS.items()}
    return write_store(Path("runs/prepare"), images)


COUNTS = {"train": 21, "held_out": 3, "test": 5}


def run(store, **settings):
    write_features(FeatureSettings(**settings), store, MODEL, OUT, CPU, checkpoint_seconds=20)
    stored = open_features(OUT, store, MODEL)
    card = json.loads((OUT / "card.json").read_text())
    return {split: np.array(stored.split(split)).astype(np.float32) for split in SPLITS}, card["runtime"].split()[0]


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_resnet"])
def test_both_runtimes_agree_and_the_last_batch_is_as_long_as_the_split(architecture, store, capsys, monkeypatch):
    network = write_model(MODEL, store, name="timm", architecture=architecture)
    monkeypatch.setattr(feature_runtime, "MANY", 30)
    by_torch, runtime = run(store, batch=8)
    assert runtime == "torch"
    monkeypatch.setattr(feature_runtime, "MANY", 29)
    by_onnx, runtime = run(store, batch=8)
    assert runtime == "onnxruntime"
    assert "torch computes" not in capsys.readouterr().out
    for split, count in COUNTS.items():
        expected = infer(network.features, Images(store.images(split), CPU)).numpy()
        assert expected.shape[0] == count
        for found in (by_torch[split], by_onnx[split]):
            np.testing.assert_allclose(found, expected, rtol=2**-10, atol=2**-10 * np.abs(expected).max())


def test_a_network_that_onnx_runtime_computes_otherwise_is_computed_by_torch(store, capsys, monkeypatch):
    write_model(MODEL, store)
    expected, _ = run(store, runtime="torch")
    original = feature_runtime.onnx_forward

    def wrong(*arguments, **options):
        forward = original(*arguments, **options)
        return lambda images: forward(images) * 1.01

    monkeypatch.setattr(feature_runtime, "onnx_forward", wrong)
    found, runtime = run(store, runtime="onnxruntime")
    assert "ONNX Runtime differs from torch by 0.0" in capsys.readouterr().out
    assert runtime == "torch"
    assert all(np.array_equal(found[split], expected[split]) for split in SPLITS)

    def failing(*arguments, **options):
        raise NotImplementedError("an operation")

    monkeypatch.setattr(feature_runtime, "onnx_forward", failing)
    assert run(store, runtime="onnxruntime")[1] == "torch"
    assert "ONNX Runtime cannot compute this network (an operation); torch computes" in capsys.readouterr().out


def test_onnx_runtime_that_is_not_installed(store, monkeypatch):
    write_model(MODEL, store, name="timm", architecture="test_efficientnet")
    monkeypatch.setattr(feature_runtime, "missing_libraries", lambda: ["onnxscript"])
    monkeypatch.setattr(feature_runtime, "MANY", 1)
    assert run(store)[1] == "torch"
    with pytest.raises(UserError, match=r"features\.runtime: onnxruntime found, but onnxscript is not installed"):
        run(store, runtime="onnxruntime")


def test_the_memory_needed_does_not_grow_with_the_number_of_images(tmp_path, monkeypatch):
    """numpy's arrays are traced: 60,000 images are 15 MB, their features 7.7 MB in float16."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60_000, 1, 16, 16), dtype=np.uint8)
    store = write_store(Path("runs/prepare"), {"train": images})
    write_model(MODEL, store)
    monkeypatch.setattr(
        feature_runtime, "torch_forward", lambda network, device: lambda images: images.float().flatten(1)[:, :64]
    )
    run_once = lambda: write_features(FeatureSettings(), store, MODEL, OUT, CPU, checkpoint_seconds=20)  # noqa: E731
    run_once()
    tracemalloc.start()
    run_once()
    stored = open_features(OUT, store, MODEL)
    tensor = stored.tensor("train", CPU)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6
    assert np.array_equal(tensor.numpy(), images.reshape(60_000, -1)[:, :64].astype(np.float16))
