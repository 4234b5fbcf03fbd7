import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from sslpipe.io.errors import UserError
from sslpipe.io.files import sha256
from sslpipe.nets.model_file import load_model
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.features import features
from stages.mine_neighbors import mine_neighbors
from stages.prepare import prepare
from stages.pretrain import pretrain
from stages.semisup import semisup

ROOT = Path(__file__).parents[2]
WEIGHTS = Path("runs/pretrain/model.safetensors")


def test_writes_weights_card_and_history(finished, read_csv):
    folder = finished / "runs/pretrain"
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "model.json", "history.csv"}
    card = json.loads((folder / "model.json").read_text())
    assert card["stage"] == "pretrain"
    assert card["data"] == json.loads((finished / "runs/prepare/store.json").read_text())["fingerprint"]
    rows = read_csv(folder / "history.csv")
    assert [float(row["epoch"]) for row in rows] == [1, 2]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert not list(finished.glob(".sslpipe/checkpoints/*"))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(project):
    before = sha256(WEIGHTS)
    pretrain()
    assert sha256(WEIGHTS) == before
    pretrain(seed=1)
    assert sha256(WEIGHTS) != before


def test_nce_is_found_by_its_name(project, capsys):
    pretrain(method="nce", epochs=1, assignments=["nce.negatives=64"])
    card = json.loads(Path("runs/pretrain/model.json").read_text())
    assert card["settings"]["negatives"] == 64
    assert "pretrain.method = nce  (option; params.yaml: simclr)" in capsys.readouterr().out


PRETEXTS = sorted({path.stem for path in (ROOT / "sslpipe/methods/pretrain").glob("[a-z]*.py")} - {"frozen"})


@pytest.mark.parametrize("method", PRETEXTS)
def test_what_follows_takes_every_pretext(project, method, read_csv):
    pretrain(method=method)
    card = json.loads(Path("runs/pretrain/model.json").read_text())
    assert card["settings"]["method"] == method
    rows = read_csv(Path("runs/pretrain/history.csv"))
    assert {"held_out/feature_std", "held_out/view_retrieval@1"} <= rows[-1].keys()
    features()
    mine_neighbors()
    cluster(epochs=1, assignments=["scan.head_epochs=1"])  # on the cached features
    semisup("fixmatch", start="pretrain", epochs=1)
    for path in (Path("runs/cluster"), Path("runs/semisup/fixmatch")):
        assert json.loads((path / "model.json").read_text())["parent"] == sha256(WEIGHTS)
    evaluate(metric="cluster-acc")


def test_feature_decoupling_takes_a_trained_rotnet_and_names_it(project):
    pretrain(method="rotnet", epochs=1, out=Path("runs/rotnet"))
    pretrain(method="feature_decoupling", epochs=1, assignments=["feature_decoupling.rotnet=runs/rotnet"])
    card = json.loads(Path("runs/pretrain/model.json").read_text())
    assert card["inputs"] == {"runs/rotnet/model.safetensors": sha256(Path("runs/rotnet/model.safetensors"))}
    assert card["settings"]["rotnet"] == "runs/rotnet"
    given = ["feature_decoupling.rotnet=runs/pretrain"]
    with pytest.raises(UserError, match=r"runs/pretrain found, which predicts no rotations"):
        pretrain(method="feature_decoupling", assignments=given)


@pytest.mark.parametrize(("pretext", "method"), [("swav", "suave"), ("dino", "daino")])
def test_the_projection_is_dropped_for_training_and_may_be_kept(project, refused, pretext, method):
    """Suave and Daino, section A.1: prototypes always begin anew; the public code drops the projection, too."""
    head = ["dino.depth=2", "dino.batch_norm=true", "dino.activation=relu"] if pretext == "dino" else []
    pretrain(method=pretext, assignments=head)
    projections = {}
    for projection in ("random", "pretrained"):
        given = [f"projection_init={projection}", "fit.optimizer.lr=1e-9", "head_init=random"]
        given += ["ema_decay=0.0"] if method == "suave" else []
        semisup(method, start="pretrain", epochs=1, assignments=given)
        network, _ = load_model(Path(f"runs/semisup/{method}"))
        projections[projection] = network.head.projection[-1].weight
        assert network.head.prototypes.weight.shape[0] == 10
    start = load_model(Path("runs/pretrain"))[0].head.projection[-1].weight
    assert torch.allclose(projections["pretrained"], start, atol=1e-5)
    assert not torch.allclose(projections["random"], start, atol=1e-2)
    pretrain(method=pretext, assignments=[*head, f"{pretext}.hidden=24"])
    kept = ["--set", "projection_init=pretrained"]
    assert "projection_init: pretrained is set" in refused("semisup", "--method", method, "--start", "pretrain", *kept)


def test_dino_takes_a_vision_transformer_and_small_crops(project, read_csv):
    crops = ["local_crops=2", "local_views={policy: plain, crop_scale: [0.2, 0.5], size: 4}"]
    given = ["network.name=vit_mini_4", *(f"dino.{each}" for each in crops)]
    pretrain(method="dino", batch=400, assignments=given)
    network, card = load_model(Path("runs/pretrain"))
    assert network.settings.name == "vit_mini_4"
    assert card.settings["local_crops"] == 2
    assert float(read_csv(Path("runs/pretrain/history.csv"))[-1]["held_out/feature_std"]) > 0.01


def test_no_label_is_read(project, read_csv):
    for split in ("train", "held_out"):
        Path("runs/prepare", split, "labels.npy").unlink()
    before = sha256(WEIGHTS)
    pretrain()
    assert sha256(WEIGHTS) == before
    rows = read_csv(Path("runs/pretrain/history.csv"))
    assert "held_out/view_retrieval@1" in rows[-1]
    assert "monitor/knn_acc" not in rows[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "simclrr"}, r"pretrain\.method: unknown name 'simclrr'; did you mean 'simclr'"),
        ({"assignments": ["simclr.temprature=1"]}, r"simclr\.temprature: unknown key; did you mean 'temperature'"),
        ({"assignments": ["simclr.temperature=-1"]}, r"simclr\.temperature: -1\.0 is out of range"),
        ({"batch": 5000}, r"pretrain\.simclr\.fit\.batch: 5000 is more than the \d+ training images"),
        ({"assignments": ["network.name=resnet19"]}, r"network\.name: unknown value 'resnet19'"),
        ({"assignments": ["other.k=1"]}, r"pretrain\.other: unknown key"),
        ({"assignments": ["pretrain.watch=held_out"]}, r"pretrain\.watch: unknown key"),
        ({"method": "frozen"}, r"network: name tiny_resnet .* expected name timm"),
        ({"device": "tpu"}, r"--device tpu"),
        ({"device": "cuda:9"}, r"CUDA devices found"),
    ],
)
def test_mistakes_are_one_line_and_cost_nothing(project, options, message):
    before = sha256(WEIGHTS)
    with pytest.raises(UserError, match=message) as error:
        pretrain(**options)
    assert "\n" not in str(error.value)
    assert sha256(WEIGHTS) == before
    assert not list(Path("runs").glob(".*"))


def test_a_store_that_is_cut_off_is_named(project):
    images = Path("runs/prepare/train/images.npy")
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"train/images\.npy"):
        pretrain()


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_weights(project, killed_and_resumed):
    killed_and_resumed(WEIGHTS, "pretrain", "--epochs", "3")


@pytest.fixture
def photographs(tmp_path, monkeypatch, tiny):
    """A project of 60 small colour images in three classes, their network to be timm's."""
    random = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "images" / ("red", "green", "blue")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 120, (12, 12, 3))
        pixels[..., number % 3] += 120
        Image.fromarray(pixels.astype("uint8")).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    network = {"name": "timm", "architecture": "test_resnet.r160_in1k"}
    prepared = {**tiny["prepare"], "source": "folder", "folder": {"path": "images"}, "size": 12, "channels": 3}
    prepared |= {"labelled": {"per_class": 2}, "held_out": 0.2}
    clustered = {
        "method": "scan",
        "clusters": 3,
        "scan": {**tiny["cluster"]["scan"], "fit": {"epochs": 1, "batch": 16}},
    }
    changes = {"prepare": prepared, "network": network, "cluster": clustered, "mine_neighbors": {"k": 5}}
    Path("params.yaml").write_text(yaml.safe_dump({**tiny, **changes}))
    torch.manual_seed(0)
    model = timm.create_model("test_resnet")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, "published.safetensors")
    prepare()
    return model


def test_a_published_network_is_taken_as_it_is_with_its_own_preprocessing(photographs, read_csv):
    pretrain(method="frozen", assignments=["frozen.weights=published.safetensors"])
    rows = read_csv(Path("runs/pretrain/history.csv"))
    assert {"held_out/alignment", "held_out/uniformity", "held_out/view_retrieval@1"} <= rows[0].keys()
    features()
    mine_neighbors()
    images = torch.from_numpy(np.load("runs/prepare/train/images.npy"))
    expected = photographs.eval()
    expected.reset_classifier(0)
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(expected))
    prepared = torch.stack([prepare(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    with torch.no_grad():
        found = expected(prepared).numpy()
    assert np.allclose(np.load("runs/features/train/features.npy"), found, atol=0.02)
    cluster(assignments=["scan.head_epochs=1"])  # heads alone, on the cached features
    semisup("fixmatch", start="pretrain", epochs=1, batch=16, assignments=["labelled_batch=6"])
    assert json.loads(Path("runs/semisup/fixmatch/model.json").read_text())["parent"] == sha256(WEIGHTS)


def test_no_download_is_tried_without_being_asked(photographs, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(UserError, match=r"pretrain\.frozen\.weights: .*set pretrain\.frozen\.download: true") as error:
        pretrain(method="frozen")
    assert "\n" not in str(error.value)
    assert not Path("runs/pretrain").exists()
