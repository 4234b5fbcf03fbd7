"""The live folder of every training stage, and the history of a finished run in a log."""

import csv
from pathlib import Path

import pytest

from sslpipe.io.files import sha256
from sslpipe.running import watching
from stages.cluster import cluster
from stages.pretrain import pretrain

PACE = ["step", "epoch", "seconds", "images_per_second", "lr", "gradient_norm"]
LIVE = Path("runs/live/pretrain")


def columns(path):
    with path.open(newline="") as file:
        return next(csv.reader(file))


def content(folder):
    return {path.name: sha256(path) for path in folder.iterdir()}


def points(folder):
    """Name of a scalar → its steps."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = event_accumulator.EventAccumulator(str(folder))
    accumulator.Reload()
    found = {tag: [event.step for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}
    return found, accumulator.Tags()["images"]


def test_every_model_has_a_live_folder_with_its_history(finished, tiny):
    models = ["pretrain", "cluster", "self-label"]
    models += [f"{stage}/{method}" for stage in ("semisup", "finetune") for method in tiny[stage]["methods"]]
    live = finished / "runs/live"
    found = {path.parent.relative_to(live).as_posix() for path in live.rglob("history.csv")}
    assert found == set(models)
    for model in models:
        history = finished / "runs" / model / "history.csv"
        assert (live / model / "history.csv").read_bytes() == history.read_bytes()
        # A method that is fitted at once has no steps, and no pace.
        assert (live / model / "pace.csv").exists() == ("step" in columns(history))
        names = {path.name for path in (live / model).iterdir()}
        assert names <= {"history.csv", "pace.csv"}
    assert columns(live / "semisup/fixmatch/pace.csv") == PACE


def test_labels_are_read_for_the_live_folder_alone(project, monkeypatch):
    before = content(Path("runs/pretrain"))
    assert columns(LIVE / "pace.csv") == PACE
    monkeypatch.setattr(watching, "AFTER", 0.0)
    monkeypatch.setattr(watching, "SHARE", 1e9)
    pretrain()
    assert columns(LIVE / "pace.csv") == [*PACE, "knn_acc"]
    assert content(Path("runs/pretrain")) == before
    for split in ("train", "held_out"):
        Path(f"runs/prepare/{split}/labels.npy").unlink()
    pretrain()
    assert columns(LIVE / "pace.csv") == PACE
    assert content(Path("runs/pretrain")) == before


def test_a_run_takes_the_place_of_the_one_before(project):
    Path("runs/live/cluster/events.out.tfevents.1.host.2").write_text("old")
    cluster("kmeans")
    assert [path.name for path in Path("runs/live/cluster").iterdir()] == ["history.csv"]
    assert content(Path("runs/live/cluster"))["history.csv"] == content(Path("runs/cluster"))["history.csv"]


@pytest.mark.parametrize("by_environment", [False, True])
def test_tensorboard_gets_every_row_and_the_views_of_the_first_batch(project, at_once, monkeypatch, by_environment):
    pytest.importorskip("tensorboard")
    before = content(Path("runs/pretrain"))
    if by_environment:  # as `dvc repro` passes it on
        monkeypatch.setenv("SSLPIPE_LOG", "tensorboard")
    code, _, err = at_once("pretrain", *([] if by_environment else ["--log", "tensorboard"]))
    assert (code, err) == (0, "")
    scalars, images = points(LIVE)
    assert set(PACE) - {"step"} <= set(scalars)
    assert {len(steps) for steps in scalars.values()} == {2}
    assert images == ["views/1"]
    assert content(Path("runs/pretrain")) == before


@pytest.mark.parametrize("stage", [["pretrain"], ["cluster"], ["self-label"], ["semisup", "--method", "fixmatch"],
                                   ["finetune", "--method", "supervised"]])  # fmt: skip
def test_an_unknown_log_is_refused_before_the_training(project, refused, stage):
    assert refused(*stage, "--log", "tensorbord").startswith("error: --log: unknown name 'tensorbord'; did you mean")


@pytest.mark.parametrize("path", ["runs/pretrain", "runs/live/pretrain"])
def test_the_history_of_a_finished_run_goes_to_a_log(project, at_once, path):
    pytest.importorskip("tensorboard")
    for _ in range(2):  # the second one in place of the first one
        code, out, err = at_once("log", path)
        assert (code, out, err) == (0, "runs/live/pretrain: 2 rows for tensorboard\n", "")
    scalars, _ = points(LIVE)
    assert {"loss", "gradient_norm"} <= set(scalars)
    assert {len(steps) for steps in scalars.values()} == {2}
    assert len(list(LIVE.glob("events*"))) == 1


def test_the_pace_of_another_run_is_left_out(project, at_once):
    pytest.importorskip("tensorboard")
    lines = (LIVE / "history.csv").read_text().splitlines(keepends=True)
    (LIVE / "history.csv").write_text("".join(lines[:-1]))  # as of another experiment that was checked out
    assert at_once("log", "runs/pretrain", "--to", "tensorboard")[0] == 0
    scalars, _ = points(LIVE)
    assert len(scalars["loss"]) == 2
    assert "gradient_norm" not in scalars


def test_a_model_folder_needs_no_live_folder(project, at_once, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir("runs/semisup/fixmatch")
    for path in Path("../../live/semisup/fixmatch").iterdir():
        path.unlink()
    assert at_once("log", ".")[0] == 0
    assert "loss" in points(project / "runs/live/semisup/fixmatch")[0]


def test_a_folder_without_history_and_an_unknown_log_are_refused(project, refused):
    assert "runs/prepare: no history.csv found, expected" in refused("log", "runs/prepare")
    assert refused("log", "runs/pretrain", "--to", "wandb").startswith("error: --to: unknown name 'wandb'")
