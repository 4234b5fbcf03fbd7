import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sslpipe.io.files import sha256
from sslpipe.nets.model_file import load_model
from stages.cluster import cluster
from stages.semisup import semisup

ROOT = Path(__file__).parents[2]
METHODS = sorted(path.stem for path in (ROOT / "sslpipe/methods/semisup").glob("[a-z]*.py"))
TRAINED = [method for method in METHODS if method not in ("propagation", "voting_probes")]
"""Those with a training loop."""
OUT = Path("runs/semisup/fixmatch")
WEIGHTS = OUT / "model.safetensors"
LABELLED = Path("runs/prepare/labelled")


def files():
    """Every file and folder under runs/, with a file's fingerprint."""
    return {path: sha256(path) if path.is_file() else None for path in Path("runs").rglob("*")}


def keep_labels(wanted):
    """Leave only those labelled images for whose label `wanted` is true."""
    label = np.load(LABELLED / "label.npy")
    for name in ("index", "label"):
        np.save(LABELLED / f"{name}.npy", np.load(LABELLED / f"{name}.npy")[wanted(label)])


@pytest.mark.parametrize("method", METHODS)
def test_writes_a_classifier_and_says_what_it_is_made_of(finished, tiny, read_csv, method):
    folder = finished / "runs/semisup" / method
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "model.json", "history.csv"}
    _, card = load_model(folder)
    entry = tiny["semisup"]["methods"][method]
    said = {key: card.settings[key] for key in ("method", "start", "labels")}
    assert said == {"method": method, "start": entry["start"], "labels": 40}
    start = finished / "runs" / entry["start"] / "model.safetensors"
    assert card.parent == (None if entry["start"] == "prepare" else sha256(start))
    assert (card.stage, len(card.classes)) == ("semisup", 10)
    rows = read_csv(folder / "history.csv")
    assert [float(row["epoch"]) for row in rows if "epoch" in row] == ([1, 2] if method in TRAINED else [])
    assert all(0 < float(row["monitor/held_out_acc"]) <= 1 for row in rows)


def test_every_learner_that_goes_on_from_a_pretext_task_beats_chance_by_far(finished, tiny, read_csv):
    for method, entry in tiny["semisup"]["methods"].items():
        if entry["start"] == "pretrain":
            rows = read_csv(finished / "runs/semisup" / method / "history.csv")
            assert float(rows[-1]["monitor/held_out_acc"]) > 0.35, method


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(project):
    before = sha256(WEIGHTS)
    semisup("fixmatch")
    assert sha256(WEIGHTS) == before
    semisup("fixmatch", seed=1)
    assert sha256(WEIGHTS) != before


@pytest.mark.parametrize("start", ["prepare", "cluster", "self-label", "semisup/simmatch"])
@pytest.mark.parametrize("method", TRAINED)
def test_every_method_goes_on_from_every_start(project, capsys, method, start):
    semisup(method, start=start, epochs=1, batch=600)
    card = load_model(Path("runs/semisup", method))[1]
    assert card.settings["start"] == start
    named = f"runs/{start}: clusters matched to classes by 40 labels" in capsys.readouterr().out
    assert named == (start in ("cluster", "self-label"))


@pytest.mark.parametrize("base", ["fixmatch", "mixmatch", "uda"])
def test_alternation_takes_turns_with_any_of_three(project, read_csv, base):
    semisup("alternation", epochs=2, assignments=[f"base={base}", "ssl={ema_decay: 0.9}"])
    rows = read_csv(Path("runs/semisup/alternation/history.csv"))
    assert [bool(row["labelled"]) for row in rows] == [True, False]
    assert [bool(row["clustering"]) for row in rows] == [False, True]


def test_a_choice_by_option_is_said_and_goes_where_it_is_told(project, at_once):
    before = sha256(WEIGHTS)
    code, out, err = at_once(
        "semisup", "--method", "fixmatch", "--start", "prepare", "--epochs", 1, "--out", "elsewhere"
    )
    assert code == 0, err
    assert "semisup.methods.fixmatch.start = prepare  (option; params.yaml: pretrain)" in out
    assert load_model(Path("elsewhere"))[1].parent is None
    assert sha256(WEIGHTS) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "fixmtch"], "--method: unknown name 'fixmtch'; did you mean 'fixmatch'"),
        (["--set", "thresold=0.5"], "semisup.fixmatch.thresold: unknown key; did you mean 'threshold'"),
        (["--set", "threshold=2"], "semisup.fixmatch.threshold: 2.0 is out of range"),
        (["--set", "semisup.fixmtch.threshold=0.5"], "semisup.fixmtch: unknown key; did you mean 'fixmatch'"),
        (["--set", "semisup.methods.fixmatch.strat=prepare"], "semisup.methods.fixmatch.strat: unknown key"),
        (["--batch", "100000"], "semisup.fixmatch.fit.batch: 100000 is more than the 1213 training images"),
        (["--start", "nowhere"], "runs/nowhere/model."),
        (["--start", "semisup/nothing"], "runs/semisup/nothing/model."),
        (["--set", "network.name=resnet18"], "runs/pretrain/model.json: network.name: tiny_resnet found"),
        (["--set", "ctaugment=true"], "ctaugment: the strong policy has no operations"),
        (["--method", "suave", "--set", "projection_init=pretrained"], "projection_init: pretrained is set"),
        (["--method", "suave", "--set", "ema_decay=null"], "semisup.suave: momentum_encoder: needs ema_decay"),
        (["--method", "alternation", "--set", "ssl.thresold=1"], "semisup.alternation.ssl.thresold: unknown key"),
        (
            ["--method", "alternation", "--set", "base=fixmtch"],
            "semisup.alternation.base: unknown name 'fixmtch'; did you mean 'fixmatch'",
        ),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line_and_cost_nothing(project, refused, arguments, message):
    before = files()
    assert message in refused("semisup", *([] if "--method" in arguments else ["--method", "fixmatch"]), *arguments)
    assert files() == before


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (lambda label: label != 3, "class '3' has no labelled image; label at least one of each class"),
        (lambda label: label == 0, "class '1' has no labelled image, and 8 more classes have none"),
        (lambda label: np.arange(len(label)) == 0, "and 8 more classes have none"),
        (lambda label: label < 0, "no image is labelled"),
    ],
    ids=["a class without", "labels of one class", "one label", "no label"],
)
def test_a_labelled_set_with_gaps_is_one_line_and_costs_nothing(project, refused, wanted, message):
    before = sha256(WEIGHTS)
    keep_labels(wanted)
    line = refused("semisup", "--method", "fixmatch")
    assert line.startswith("error: runs/prepare/labelled: ")
    assert message in line
    assert sha256(WEIGHTS) == before


def test_clusters_other_in_number_than_classes_are_refused(project, refused):
    cluster(clusters=20, epochs=1)
    line = refused("semisup", "--method", "fixmatch", "--start", "cluster")
    assert "runs/cluster: 20 clusters found, expected 10, one per class; set cluster.clusters" in line


def test_a_start_of_other_images_is_refused(project, refused):
    path = Path("runs/prepare/store.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "0" * 64}))
    assert "runs/pretrain: data: " in refused("semisup", "--method", "fixmatch")


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_weights(project, killed_and_resumed):
    killed_and_resumed(WEIGHTS, "semisup", "--method", "fixmatch", "--epochs", "3")


def test_propagation_reads_stored_features_and_not_the_images(project, monkeypatch, read_csv):
    out = Path("runs/semisup/propagation")
    before = sha256(out / "model.safetensors")

    def no_pass(*_, **__):
        raise AssertionError("a pass over the images")

    monkeypatch.setattr("sslpipe.running.checks.infer", no_pass)
    monkeypatch.setattr("sslpipe.nets.network.Network.features", no_pass)
    semisup("propagation")
    assert sha256(out / "model.safetensors") == before
    card = load_model(out)[1]
    assert {Path(path).as_posix() for path in card.inputs} >= {
        "runs/features/card.json",
        "runs/mine-neighbors/train/indices.npy",
    }
    (row,) = read_csv(out / "history.csv")
    assert row["labels"] == "40"


def test_propagation_starts_from_any_model_with_the_backbone_of_the_features(project, refused):
    semisup("propagation", start="semisup/propagation", out=Path("elsewhere"))
    assert load_model(Path("elsewhere"))[1].settings["start"] == "semisup/propagation"
    line = refused("semisup", "--method", "propagation", "--start", "semisup/fixmatch")
    assert "runs/features/card.json: backbone: " in line
    line = refused("semisup", "--method", "propagation", "--start", "prepare")
    assert "semisup.methods.propagation.start: prepare found, expected pretrain" in line


def change_card(**changes):
    path = Path("runs/mine-neighbors/card.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: shutil.rmtree("runs/features"), "runs/features/card.json: no such file; run 'sslpipe features'"),
        (lambda: shutil.rmtree("runs/mine-neighbors"), "runs/mine-neighbors/card.json: no such file"),
        (lambda: change_card(parent="0" * 64), "runs/mine-neighbors/card.json: parent: 000000000000 found, expected"),
        (lambda: change_card(data="0" * 64), "runs/mine-neighbors/card.json: data: 000000000000 found, expected"),
        (
            lambda: np.save("runs/mine-neighbors/train/indices.npy", np.zeros((1213, 7), np.int64)),
            "similarities.npy: float32 [1213, 6] found, expected float32 [1213, 7]; run the stage mine-neighbors again",
        ),
        (
            lambda: np.save("runs/mine-neighbors/train/indices.npy", np.full((1213, 6), 1213)),
            "indices from 1213 to 1213 found, expected those of 1213 images",
        ),
    ],
    ids=["no features", "no neighbours", "of another model", "of other images", "another number", "no such image"],
)
def test_stored_inputs_that_do_not_fit_are_one_line(project, refused, spoil, message):
    before = sha256(Path("runs/semisup/propagation/model.safetensors"))
    spoil()
    assert message in refused("semisup", "--method", "propagation")
    assert sha256(Path("runs/semisup/propagation/model.safetensors")) == before


def test_a_model_with_propagated_labels_is_evaluated_on_test_images(finished, read_csv):
    rows = read_csv(finished / "runs/evaluate/table.csv")
    assert float(next(row for row in rows if row["model"] == "semisup.propagation")["acc"]) > 0.35
