import json
from pathlib import Path

import pytest

from sslpipe.io.errors import UserError
from sslpipe.io.files import sha256
from stages.pretrain import pretrain

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "simclrr"}, r"pretrain\.method: unknown name 'simclrr'; did you mean 'simclr'"),
        ({"assignments": ["simclr.temprature=1"]}, r"simclr\.temprature: unknown key; did you mean 'temperature'"),
        ({"assignments": ["simclr.temperature=-1"]}, r"simclr\.temperature: -1\.0 is out of range"),
        ({"batch": 5000}, r"pretrain\.simclr\.fit\.batch: 5000 is more than the \d+ images"),
        ({"assignments": ["network.name=resnet19"]}, r"network\.name: unknown value 'resnet19'"),
        ({"assignments": ["other.k=1"]}, r"pretrain\.other: unknown key"),
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
    killed_and_resumed(WEIGHTS, "pretrain", "--epochs", "4")
