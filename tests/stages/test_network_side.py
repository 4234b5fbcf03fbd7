"""The whole line where stored images (10 px) are larger than what the network sees (8 px)."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from sslpipe.data.store import Store
from sslpipe.io.errors import UserError
from sslpipe.nets.model_file import load_model
from sslpipe.tools.predict import open_bank
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.features import features
from stages.finetune import finetune
from stages.mine_neighbors import mine_neighbors
from stages.prepare import prepare
from stages.pretrain import pretrain
from stages.self_label import self_label
from stages.semisup import semisup
from stages.tools.export import export
from stages.tools.inspect import inspect
from stages.tools.predict import predict

SIZE, SIDE = 10, 8
CENTRE = slice(1, 9)
MODELS = ("pretrain", "cluster", "self-label", "semisup/fixmatch", "semisup/suave", "finetune/linear")


@pytest.fixture(scope="module")
def line(tmp_path_factory, tiny):
    """A project in which the stages have run once, shortly. Not to be changed, but for new files."""
    folder = tmp_path_factory.mktemp("line")
    settings = {
        **tiny,
        "prepare": {**tiny["prepare"], "size": SIZE},
        "network": {**tiny["network"], "side": SIDE},
        "semisup": {
            "methods": {"fixmatch": {"start": "self-label"}, "suave": {"start": "pretrain"}},
            **{name: tiny["semisup"][name] for name in ("fixmatch", "suave")},
        },
        "finetune": {"methods": {"linear": {"start": "semisup/fixmatch"}}},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare()
        pretrain(epochs=1, batch=64)
        features()
        mine_neighbors()
        cluster(epochs=2, batch=64, assignments=["scan.head_epochs=1"])
        self_label(epochs=1, batch=64)
        for method in ("fixmatch", "suave"):
            semisup(method, epochs=1)
        finetune("linear")
        evaluate()
    return folder


@pytest.fixture(autouse=True)
def _there(line, monkeypatch):
    monkeypatch.chdir(line)


def centres_of(split):
    """The centres of stored images, float [N, 1, 8, 8] in [0, 1]."""
    return torch.from_numpy(Store(Path("runs/prepare")).images(split)[..., CENTRE, CENTRE].copy()).float() / 255


@torch.no_grad()
def features_of(name, images):
    """A model's features of images as its backbone is given them, without any code of the crop."""
    network, _ = load_model(Path("runs", name))
    network.eval()
    return network.backbone((images - network.mean) / network.std), network.head


def test_every_card_has_both_sizes():
    assert json.loads(Path("runs/prepare/store.json").read_text())["size"] == SIZE
    for name in MODELS:
        card = json.loads(Path("runs", name, "model.json").read_text())
        assert (card["size"], card["network"]["backbone"]["side"]) == (SIZE, SIDE)


def test_inspect_shows_both(capsys):
    inspect(Path("runs/cluster"))
    assert "  size: 10\n  side: 8\n" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_stored_features_are_those_of_the_centres(split):
    found = torch.from_numpy(np.load(Path("runs/features") / split / "features.npy")).float()
    torch.testing.assert_close(found, features_of("pretrain", centres_of(split))[0], rtol=1e-3, atol=1e-4)


def test_metrics_are_those_of_the_centres():
    metrics = json.loads(Path("runs/evaluate/metrics.json").read_text())
    label = Store(Path("runs/prepare")).labels("test")
    for name in ("semisup.fixmatch", "semisup.suave", "finetune.linear"):
        features, head = features_of(name.replace(".", "/"), centres_of("test"))
        with torch.no_grad():
            predicted = head(features).argmax(dim=1).numpy()
        assert metrics[name]["acc"] == pytest.approx((predicted == label).mean(), abs=3e-3)
    assert metrics["kmeans_pixels"]["cluster_acc"] > 0.5


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_predictions_are_those_of_the_exported_file_and_of_the_centres(tmp_path, form):
    pixels = np.rint(load_digits().images[:12] * (255 / 16)).astype(np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    predict(Path("runs/semisup/suave"), [tmp_path], out=tmp_path / "p.csv", neighbors=1)
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    squares = np.stack([np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.BICUBIC)) for image in pixels])
    squares = torch.from_numpy(squares[:, None].copy())
    export(Path("runs/semisup/suave"), form, tmp_path / "exported")
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(tmp_path / "exported/model.onnx")
        exported = torch.from_numpy(session.run(None, {"images": squares.numpy()})[0])
    else:
        exported = torch.export.load(tmp_path / "exported/model.pt2").module()(squares)
    features, head = features_of("semisup/suave", squares[..., CENTRE, CENTRE].float() / 255)
    with torch.no_grad():
        expected = head(features).softmax(dim=1)
    torch.testing.assert_close(exported, expected, rtol=0, atol=1e-5)
    assert [int(row["prediction"]) for row in rows] == expected.argmax(dim=1).tolist()
    assert [float(row["confidence"]) for row in rows] == pytest.approx(expected.amax(dim=1).tolist(), abs=1e-4)


def test_features_of_training_images_are_not_those_of_another_side(tmp_path):
    """A card with another side, as of a published network that is used again: its weights are the same."""
    image = tmp_path / "0.png"
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(image)
    found = []
    for side in (SIDE, SIZE, SIDE):
        model = tmp_path / str(side)
        shutil.copytree("runs/pretrain", model, dirs_exist_ok=True)
        card = json.loads((model / "model.json").read_text())
        card["network"]["backbone"]["side"] = side
        (model / "model.json").write_text(json.dumps(card))
        predict(model, [image], out=tmp_path / "p.csv", neighbors=3)
        found.append((tmp_path / "p.csv").read_text())
        network, card = load_model(model)
        bank = open_bank(model, card, network.eval(), Path("runs/prepare"), Path("runs/features"), torch.device("cpu"))
        whole = torch.from_numpy(np.array(Store(Path("runs/prepare")).images("train"))).float() / 255
        with torch.no_grad():
            expected = torch.nn.functional.normalize(network.features(whole), dim=1)
        torch.testing.assert_close(bank.features[:], expected, rtol=1e-3, atol=1e-4)
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize(
    ("stage", "found"),
    [
        (
            lambda: pretrain(assignments=["network.side=12"]),
            "network.side: 12 found, expected at most prepare.size, 10",
        ),
        (
            lambda: semisup("fixmatch", start="prepare", assignments=["network.side=12"]),
            "network.side: 12 found, expected at most prepare.size, 10",
        ),
        (
            lambda: semisup("fixmatch", assignments=["network.side=9"]),
            "runs/self-label/model.json: network.side: 8 found, expected 9 as in params.yaml; run the stage",
        ),
        (
            lambda: evaluate(assignments=["network.side=null"]),
            "runs/cluster/model.json: network.side: 8 found, expected null as in params.yaml; run the stage",
        ),
    ],
)
def test_a_side_that_does_not_fit_is_one_line(stage, found):
    with pytest.raises(UserError) as raised:
        stage()
    assert str(raised.value).startswith(found)
    assert "\n" not in str(raised.value)
