"""A run that comes to nothing ends with exit code 2, names the cause and leaves the former outputs as they are."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from sslpipe.io.files import sha256
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.self_label import self_label

PRETEXTS = ("simclr", "nce", "moco", "byol", "propos", "rotnet", "feature_decoupling", "swav", "dino")
WITH_LABELS = ("supervised", "fixmatch", "mixmatch", "uda", "simmatch", "suave", "daino", "alternation")
TRAINED = [
    *(f"pretrain@{name}" for name in PRETEXTS),
    "cluster@scan",
    "self-label@confident",
    *(f"semisup@{name}" for name in WITH_LABELS),
    "finetune@supervised",
    "finetune@semisupervised",
]
"""Every training stage and method with steps; finetune@linear has none."""
EVERY = [*TRAINED, "finetune@linear"]
BY_LABELS = [name for name in EVERY if name.startswith(("semisup", "finetune"))]
IMAGES = Path("runs/prepare/train/images.npy")
FEATURES = Path("runs/features/train/features.npy")
INDICES = Path("runs/mine-neighbors/train/indices.npy")
LABELS = Path("runs/prepare/labelled/label.npy")
CLUSTER = Path("runs/cluster")


def arguments(name, *settings):
    """The command of a stage or stage@method, with assignments in the block of its settings."""
    stage, _, method = name.partition("@")
    block = f"{stage.replace('-', '_')}.{method}".rstrip(".")
    assigned = chain.from_iterable(("--set", f"{block}.{each}") for each in settings)
    return [stage, *(["--method", method] if method else []), *assigned]


def bytes_of(folder):
    """The outputs in a folder; runs/live shows how far the run came."""
    return {
        path: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_relative_to(folder / "live")
    }


@pytest.fixture
def refused_and_unchanged(project, refused):
    """Run a stage: one line with its cause; all outputs are as before and nothing is left to resume from."""

    def run(name, *settings):
        before = bytes_of(Path("runs"))
        line = refused(*arguments(name, *settings))
        assert bytes_of(Path("runs")) == before
        assert not list(Path(".sslpipe/checkpoints").glob("*-*"))
        return line

    return run


def change(path, to):
    """Replace an array of the project by a function of it."""
    array = np.load(path)
    np.save(path, to(array).astype(array.dtype))


@pytest.mark.parametrize("name", TRAINED)
def test_a_learning_rate_a_million_times_too_high(name, refused_and_unchanged, tiny):
    stage, _, method = name.partition("@")
    block = tiny[stage.replace("-", "_")]
    rate = float((block[method] if method else block)["fit"]["optimizer"]["lr"])
    line = refused_and_unchanged(name, f"fit.optimizer.lr={1e6 * rate}", "fit.steps=8", "fit.interval=4")
    assert "lower" in line
    assert any(
        cause in line for cause in ("the loss is", "the weights are", "not finite", "all 1213 training", "collapse")
    )


@pytest.mark.parametrize("name", TRAINED)
def test_one_image_in_a_batch(name, refused_and_unchanged):
    assert "fit.batch: 1 is out of range, expected at least 2" in refused_and_unchanged(name, "fit.batch=1")


def test_one_labelled_image_in_a_batch(refused_and_unchanged):
    assert "labelled_batch: 1 is out of range" in refused_and_unchanged("semisup@supervised", "labelled_batch=1")


@pytest.mark.parametrize("setting", ["clusters=1", "scan.merge_to=1"])
def test_one_cluster(setting, refused_and_unchanged):
    assert "1 is out of range, expected at least 2" in refused_and_unchanged("cluster", setting)


@pytest.mark.parametrize("name", EVERY)
def test_constant_images(name, refused_and_unchanged):
    change(IMAGES, lambda images: np.full_like(images, 128))
    assert f"{IMAGES}: all 1213 training images are equal" in refused_and_unchanged(name)


@pytest.mark.parametrize("name", EVERY)
def test_one_image_repeated(name, refused_and_unchanged):
    change(IMAGES, lambda images: np.repeat(images[:1], len(images), axis=0))
    assert f"{IMAGES}: all 1213 training images are equal" in refused_and_unchanged(name)


@pytest.mark.parametrize("name", BY_LABELS)
@pytest.mark.parametrize(("labels", "cause"), [("equal", "class '1' has no labelled image"), ("none", "no image is")])
def test_equal_or_missing_labels(name, labels, cause, refused_and_unchanged):
    if labels == "equal":
        change(LABELS, np.zeros_like)
    else:
        for path in (LABELS, LABELS.with_name("index.npy")):
            change(path, lambda array: array[:0])
    assert f"{LABELS.parent}: {cause}" in refused_and_unchanged(name)


@pytest.mark.parametrize("name", ["pretrain", "cluster", "self-label"])
def test_stages_without_labels_are_the_same_with_equal_ones(name, opened):
    """They do not open the file."""
    assert opened[name]
    assert LABELS not in opened[name]


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_features_that_are_not_finite(split, project, refused_and_unchanged):
    path = FEATURES.parents[1] / split / "features.npy"
    change(path, lambda features: np.where(np.arange(len(features))[:, None] == 7, np.nan, features))
    line = refused_and_unchanged("cluster@scan", "head_epochs=1")
    assert f"{path}: values that are not finite found in 1 of" in line


def test_features_of_another_network_and_neighbours_that_do_not_exist(refused_and_unchanged):
    change(FEATURES, lambda features: features[:, :-1])
    assert f"{FEATURES}: float16 [1213, 63] found, expected float16 [1213, 64]" in refused_and_unchanged("cluster")
    change(INDICES, lambda indices: indices + 5)
    assert "indices.npy: indices from 5 to 1217 found" in refused_and_unchanged("cluster")


@pytest.mark.parametrize("name", ["self-label", *BY_LABELS])
def test_features_are_opened_by_methods_on_features_alone(name, opened):
    assert opened[name]
    assert (FEATURES in opened[name]) == (name == "finetune@linear")


@pytest.mark.parametrize(
    ("name", "setting", "cause"),
    [
        ("pretrain@simclr", "fit.epochs=0", "epochs: 0 is out of range"),
        ("pretrain@simclr", "temperature=0", "temperature: 0.0 is out of range"),
        ("pretrain@simclr", "fit.optimizer.lr=0", "lr: 0.0 is out of range"),
        ("pretrain@swav", "prototypes=1", "prototypes: 1 is out of range"),
        ("pretrain@dino", "ema_decay=1", "ema_decay: 1.0 is out of range, expected at least 0 and below 1"),
        ("self-label@confident", "ema_decay=1", "ema_decay: 1.0 is out of range"),
        ("semisup@fixmatch", "ema_decay=1", "ema_decay: 1.0 is out of range"),
        ("semisup@fixmatch", "label_smoothing=1", "label_smoothing: 1.0 is out of range"),
        ("semisup@alternation", "warmup_epochs=2", "fit.epochs: 2 found, expected more than warmup_epochs, 2"),
        ("finetune@linear", "penalties=[]", "penalties: no number found"),
        ("finetune@linear", "penalties=[1e30]", "all 1213 training images are in one of 10 classes"),
    ],
)
def test_settings_with_which_nothing_is_learned(name, setting, cause, refused_and_unchanged):
    assert cause in refused_and_unchanged(name, setting)


def test_settings_that_need_another(refused_and_unchanged):
    weights = [f"{term}_weight=0" for term in ("rotation", "agreement", "instance")]
    assert "all are 0" in refused_and_unchanged("pretrain@feature_decoupling", *weights)
    teacher = ["memory=teacher", "ema_decay=null"]
    assert "memory: teacher needs ema_decay" in refused_and_unchanged("semisup@simmatch", *teacher)


@pytest.mark.parametrize("held_out", ["some", "none"])
def test_features_that_collapse_in_less_than_an_epoch(held_out, refused_and_unchanged, monkeypatch):
    if held_out == "none":
        monkeypatch.setattr("sslpipe.methods.pretrain._base.feature_diagnostics", lambda *_: {})
    monkeypatch.setattr("sslpipe.methods.pretrain._base.MIN_STD", 2.0)
    line = refused_and_unchanged("pretrain@simclr", "fit.steps=3")
    assert "pretrain.simclr: all features are the same (collapse); lower" in line


def test_the_loss_of_the_first_step_outlives_a_checkpoint(refused_and_unchanged, monkeypatch):
    """The run is stopped at its first checkpoint; the rest of it, alone, would not show that the loss has risen."""
    from sslpipe.engine.checkpoint import Checkpoint

    save, saved = Checkpoint.save, []

    def stop(self, state, *rest):
        save(self, state, *rest)
        saved.append({name: value.item() for name, value in state.first.items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", stop)
    given = ["fit.optimizer.lr=1e3", "fit.steps=6", "fit.interval=2"]
    from stages.finetune import finetune

    with pytest.raises(KeyboardInterrupt):
        finetune("supervised", assignments=given, checkpoint_seconds=0.0)
    monkeypatch.setattr(Checkpoint, "save", save)
    line = refused_and_unchanged("finetune@supervised", *given)
    assert f"{saved[0]['loss']:.4g} at the first step" in line


def test_fewer_clusters_than_set_are_reported(project, capsys, at_once):
    weights = safetensors.torch.load_file(CLUSTER / "model.safetensors")
    weights["head.bias"][3:] = -1e4
    weights["head.bias"][:3] = torch.tensor([0.0, 1e-3, -1e-3])
    safetensors.torch.save_file(weights, CLUSTER / "model.safetensors")
    self_label(epochs=1, assignments=["confident.threshold=1.0"])
    assert "self_label.confident: 3 of 10 clusters have training images, 7 have none" in capsys.readouterr().out
    evaluate()
    said = "cluster: all images are in 3 of 10 clusters"
    assert said in capsys.readouterr().out
    metrics = json.loads(Path("runs/evaluate/metrics.json").read_text())
    assert (metrics["cluster"]["clusters_used"], metrics["cluster"]["outputs"]) == (3, 10)
    assert said in at_once("table")[1]
    weights["head.bias"][0] = 1e4
    safetensors.torch.save_file(weights, CLUSTER / "model.safetensors")
    code, _, err = at_once("self-label", "--set", "self_label.confident.threshold=1.0")
    assert (code, "all 1213 training images are in one of 10 clusters" in err) == (2, True)


def test_more_clusters_than_groups_of_images_are_reported(project, capsys):
    cluster(clusters=300, epochs=1)
    assert "of 300 clusters have training images" in capsys.readouterr().out


def test_a_broken_self_labelling_does_not_blame_the_threshold(project, at_once):
    _, out, err = at_once(*arguments("self-label@confident", "fit.optimizer.lr=1e9"))
    assert "threshold" not in out
    assert "lower self_label.confident.fit.optimizer.lr" in err


@pytest.mark.parametrize("interval", [2, 4])
def test_one_class_for_all_images_is_refused_except_after_a_short_trial(interval, project, at_once):
    start = Path("runs/semisup/fixmatch/model.safetensors")
    weights = safetensors.torch.load_file(start)
    weights["head.bias"][4] = 1e4
    safetensors.torch.save_file(weights, start)
    given = ["fit.optimizer.lr=1e-9", "fit.steps=4", f"fit.interval={interval}"]
    code, out, err = at_once(*arguments("finetune@supervised", *given), "--start", "semisup/fixmatch")
    assert "all 1213 training images are in one of 10 classes" in (out if interval == 4 else err)
    assert code == (0 if interval == 4 else 2)


def test_no_confident_image_is_reported(project, at_once):
    code, out, _ = at_once(*arguments("semisup@fixmatch", "threshold=1", "head_init=random", "fit.steps=4"))
    assert code == 0
    assert "semisup.fixmatch: no unlabelled image is confident at the end; lower the threshold" in out


def test_a_loss_that_has_not_fallen_is_reported_and_one_that_has_is_not(project, at_once):
    for rate, reported in ((1e-9, True), (1e-3, False)):
        code, out, _ = at_once(
            *arguments("pretrain@simclr", f"fit.optimizer.lr={rate}", "fit.schedule.warmup_epochs=0")
        )
        assert code == 0
        assert ("so little was learned; lower the learning rate or" in out) is reported


def test_an_alternation_without_clustering_is_its_base(project, at_once):
    code, out, _ = at_once(*arguments("semisup@alternation", "ssl_epochs=2"))
    assert code == 0
    assert "before the first clustering, after 2, so the model is that of semisup.fixmatch; raise fit.epochs" in out


def broken(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
        return
    weights = safetensors.torch.load_file(path)
    weights["head.weight"][0, 0] = float("nan")
    safetensors.torch.save_file(weights, path)


@pytest.mark.parametrize(("how", "part"), [("nan", "values that are not finite"), ("truncated", "not readable as")])
def test_inspect_names_broken_weights(project, at_once, refused, how, part):
    broken(CLUSTER / "model.safetensors", how)
    code, out, err = at_once("inspect", CLUSTER)
    assert (code, err) == (0, "")
    assert f"  broken: {CLUSTER}/model.safetensors: " in out
    assert part in out
    assert part in refused("self-label")


def test_inspect_names_another_version(project, at_once):
    card = json.loads((CLUSTER / "model.json").read_text())
    (CLUSTER / "model.json").write_text(json.dumps({**card, "version": "0.0.1"}))
    out = at_once("inspect", CLUSTER)[1]
    assert out.startswith(f"runs/cluster: model of cluster, sslpipe 0.0.1 (installed: {card['version']})\n")


def test_a_card_with_fewer_classes_than_outputs_is_one_line(project, refused):
    path = Path("runs/semisup/fixmatch/model.json")
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "classes": card["classes"][:-1]}))
    for command in (["evaluate"], ["finetune", "--method", "linear", "--start", "semisup/fixmatch"], ["inspect", path]):
        assert f"{path}: classes: 9 found, expected 10, one per output" in refused(*command)


def test_a_good_run_reports_nothing_but_its_end(finished, project, capsys):
    before = sha256(CLUSTER / "model.safetensors")
    cluster(assignments=["compare.images=0"])  # without the table of candidates
    said = capsys.readouterr().out
    assert sha256(CLUSTER / "model.safetensors") == before
    lines = [line for line in said.splitlines() if "option;" not in line and not line.startswith("device: ")]
    heads, wrote, learned = lines  # the first, as the project has more epochs of heads than epochs
    assert heads.startswith("cluster.scan: heads alone are trained, in all 2 epochs")
    assert wrote.startswith("runs/cluster: ")
    assert learned.startswith("cluster.scan: loss ")
