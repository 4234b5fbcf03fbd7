"""Every stage that computes runs on a pretended CUDA device, with the results of the CPU in float32."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretend_device import pretend_cuda
from safetensors.torch import load_file

from sslpipe.data import device as chosen_device
from stages.__main__ import app


@contextmanager
def cuda():
    """A pretence within which a command finds the device."""
    precision = torch.backends.cudnn.conv.fp32_precision
    chosen_device._print_once.cache_clear()
    try:
        with pretend_cuda() as pretence:
            yield pretence
    finally:
        torch.backends.cudnn.conv.fp32_precision = precision
        chosen_device._print_once.cache_clear()


@pytest.fixture
def on_device(monkeypatch, capsys):
    """Run a command with --device cuda, in float32; what it prints."""
    monkeypatch.setenv("SSLPIPE_PRECISION", "float32")

    def run(*arguments):
        with cuda(), pytest.raises(SystemExit) as ended:
            app([*map(str, arguments), "--device", "cuda"])
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        assert "device: cuda:0 (a pretended device), float32" in out
        return out

    return run


def check_trained(folder, reference, read_csv):
    """The histories of two runs are equal, but for rounding, and so are their weights."""
    rows = [read_csv(path / "history.csv") for path in (folder, reference)]
    assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
    for row, expected in zip(*rows, strict=True):
        losses = {key for key in row if not key.startswith("held_out")}
        assert {key: float(row[key]) for key in losses} == pytest.approx(
            {key: float(expected[key]) for key in losses}, rel=1e-3, abs=1e-4
        )
    found, expected = (load_file(path / "model.safetensors") for path in (folder, reference))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert (found[key].double() - value).norm() <= 1e-2 * value.double().norm() + 1e-3, key


@pytest.mark.parametrize(
    ("stage", "folder"),
    [
        (["pretrain"], "pretrain"),
        (["cluster"], "cluster"),
        (["self-label"], "self-label"),
        (["semisup", "--method", "fixmatch"], "semisup/fixmatch"),
        (["semisup", "--method", "propagation"], "semisup/propagation"),
        (["semisup", "--method", "voting_probes"], "semisup/voting_probes"),
    ],
    ids=lambda value: None if isinstance(value, str) else value[-1],
)
def test_training_has_the_results_of_the_cpu(stage, folder, project, on_device, read_csv):
    reference = Path("reference")
    shutil.copytree(Path("runs") / folder, reference)
    on_device(*stage)
    check_trained(Path("runs") / folder, reference, read_csv)


def test_a_linear_probe_is_that_of_the_cpu(project, on_device, at_once, read_csv):
    stage = ["finetune", "--method", "linear", "--set", "iterations=20", "--set", "penalties=[0.01, 0.1]"]
    assert at_once(*stage, "--device", "cpu", "--out", "reference")[0] == 0
    on_device(*stage)
    check_trained(Path("runs/finetune/linear"), Path("reference"), read_csv)


def test_features_and_neighbors_are_those_of_the_cpu(project, on_device):
    before = {
        path: np.load(path) for path in Path("runs").rglob("*.npy") if path.parts[1] in ("features", "mine-neighbors")
    }
    on_device("features")
    on_device("mine-neighbors")
    for path, expected in before.items():
        found = np.load(path)
        if found.dtype == np.float16:
            np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=2e-3, atol=1e-4)
        else:
            assert (found == expected).mean() > 0.99, path  # float16 moves neighbours that are equally near


BRIEF = {
    "scan_heads": ["scan_heads.steps=50", "scan_heads.neighbors=5"],
    "turtle": ["turtle.steps=20"],
    "temi": ["temi.heads=2", "temi.hidden=16", "temi.embedding=8", "temi.epochs=10", "temi.lr=0.003"],
}
"""Assignments with which methods on features take less time."""


@pytest.mark.parametrize("method", ["kmeans", "spectral", "scan_heads", "temi", "turtle"])
def test_groups_of_features_are_those_of_the_cpu(method, project, on_device, at_once, read_csv):
    brief = [argument for each in BRIEF.get(method, ()) for argument in ("--set", each)]
    assert at_once("cluster", "--method", method, "--device", "cpu", "--out", "reference", *brief)[0] == 0
    on_device("cluster", "--method", method, *brief)
    check_trained(Path("runs/cluster"), Path("reference"), read_csv)


def test_metrics_are_those_of_the_cpu(project, on_device):
    file = Path("runs/evaluate/metrics.json")
    expected = flat(json.loads(file.read_text()))
    on_device("evaluate")
    found = flat(json.loads(file.read_text()))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def flat(metrics):
    named = {f"{name}.{key}": value for name, row in metrics.items() for key, value in row.items()}
    return {name: value for name, value in named.items() if isinstance(value, int | float)}


@pytest.mark.parametrize("model", ["cluster", "semisup/fixmatch"])
def test_predictions_are_those_of_the_cpu(model, project, on_device, at_once, read_csv, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    rows = []
    for run, device in ((at_once, ["--device", "cpu"]), (on_device, [])):
        run("predict", f"runs/{model}", images, "--workers", 1, *device)
        rows.append(read_csv(Path("predictions.csv")))
        Path("predictions.csv").unlink()
    for row, expected in zip(*rows, strict=True):
        assert float(row.pop("confidence")) == pytest.approx(float(expected.pop("confidence")), abs=2e-4)
        assert row == expected
