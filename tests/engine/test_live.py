"""The live files of a run, against what `write_csv` writes of its history and against plain loops."""

import csv
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import nn

from sslpipe.data.batches import Batches
from sslpipe.data.images import Images
from sslpipe.engine.checkpoint import Checkpoint, State
from sslpipe.engine.live import Live, RowsFile, joined
from sslpipe.engine.loop import fit
from sslpipe.engine.method import BaseMethod
from sslpipe.engine.optimizers import OptimizerSettings, gradient_norm
from sslpipe.engine.trainer import FitSettings, Trainer
from sslpipe.io.errors import UserError
from sslpipe.io.files import write_csv

COLUMNS = st.sampled_from(["step", "loss", "held_out/std", 'a "quoted", one'])
ROWS = st.lists(st.dictionaries(COLUMNS, st.floats() | st.integers(), min_size=1), min_size=1, max_size=8)
PACE = ["step", "epoch", "seconds", "images_per_second", "lr", "gradient_norm"]


class Line(BaseMethod):
    """A linear regression; breaks off within a step, and adds a column from the third interval on, if told to."""

    def __init__(self, break_at=None, late_column=False):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.break_at, self.late_column = break_at, late_column

    def draw_views(self, batch, generator):
        return None

    def losses(self, batch, views, generator):
        return {"loss": self.layer(batch.image.flatten(1).float() / 255).sub(1).square().mean()}

    def after_step(self):
        if self.progress.step == self.break_at:
            signal.raise_signal(signal.SIGINT)

    def after_epoch(self, terms):
        return {"late": 1.0} if self.late_column and self.progress.epochs >= 3 else {}


def batches():
    array = np.random.default_rng(0).integers(0, 256, (40, 1, 2, 2), dtype=np.uint8)
    return Batches(Images(array, torch.device("cpu")), 8, seed=3)


SETTINGS = FitSettings(epochs=5, batch=8, optimizer=OptimizerSettings(name="sgd", lr=0.01))


def run(folder, *, checkpoint=None, settings=SETTINGS, measure=None, **kwargs):
    torch.manual_seed(0)
    live = Live(folder, **({"measure": measure} if measure else {}))
    checkpoint = checkpoint or Checkpoint(None, 1e9)
    return fit(Line(**kwargs), batches(), settings, where="test", seed=3, checkpoint=checkpoint, live=live).history


def written(tmp_path, rows):
    write_csv(tmp_path / "expected.csv", rows)
    return (tmp_path / "expected.csv").read_bytes()


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@examples(max_examples=50)
@given(rows=ROWS, before=st.integers(0, 8))
def test_after_every_row_the_file_is_what_write_csv_writes(tmp_path_factory, rows, before):
    folder = tmp_path_factory.mktemp("rows")
    file = RowsFile(folder / "history.csv")
    file.replace(rows[:before])
    assert file.path.exists() == bool(rows[:before])
    for count in range(before, len(rows)):
        file.add(rows[count])
        assert file.path.read_bytes() == written(folder, rows[: count + 1])


def test_a_row_with_known_columns_is_appended(tmp_path):
    file = RowsFile(tmp_path / "history.csv")
    file.add({"step": 1, "loss": 2.0})
    inode = file.path.stat().st_ino
    file.add({"step": 2, "loss": 1.0})
    assert file.path.stat().st_ino == inode
    file.add({"step": 3, "acc": 1.0})
    assert file.path.stat().st_ino != inode


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("step\n")])
def test_a_file_that_was_deleted_or_changed_is_written_again(tmp_path, spoil):
    file, rows = RowsFile(tmp_path / "history.csv"), [{"step": 1}, {"step": 2}]
    file.add(rows[0])
    spoil(file.path)
    file.add(rows[1])
    assert file.path.read_bytes() == written(tmp_path, rows)


def test_rows_that_could_not_be_written_come_with_the_next_one(tmp_path, monkeypatch):
    file, rows = RowsFile(tmp_path / "live/history.csv"), [{"step": step} for step in range(4)]
    file.add(rows[0])
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:1]))  # a disk with one byte left
        patch.setattr("sslpipe.engine.live.write_bytes", full)
        for row in rows[1:3]:
            with pytest.raises(UserError, match="no space"):
                file.add(row)
        assert file.path.read_bytes() == written(tmp_path, rows[:1])
    file.add(rows[3])
    assert file.path.read_bytes() == written(tmp_path, rows)


def full(path, data):
    raise UserError(f"{path}: cannot be written: no space left on device")


def test_an_error_of_another_kind_leaves_no_row_out(tmp_path, monkeypatch):
    file, rows = RowsFile(tmp_path / "history.csv"), [{"step": step} for step in range(3)]
    file.add(rows[0])
    with monkeypatch.context() as patch:

        def broken(*arguments, **options):
            raise OSError(6, "No such device or address")

        patch.setattr("sslpipe.engine.live.append_bytes", broken)
        with pytest.raises(OSError, match="device"):
            file.add(rows[1])
    file.add(rows[2])
    assert file.path.read_bytes() == written(tmp_path, rows)


@pytest.mark.parametrize("late_column", [False, True])
def test_the_live_history_is_that_of_the_run(tmp_path, late_column):
    history = run(tmp_path / "live", late_column=late_column)
    assert (tmp_path / "live/history.csv").read_bytes() == written(tmp_path, history)
    pace = read(tmp_path / "live/pace.csv")
    assert list(pace[0]) == PACE
    for name in ("step", "epoch", "lr"):
        assert [float(row[name]) for row in pace] == [row[name] for row in history]
    assert not {"seconds", "images_per_second", "gradient_norm"} & set(history[0])


@pytest.mark.parametrize("break_at", [3, 10, 13, 22])
@pytest.mark.parametrize("late_column", [False, True])
def test_a_stopped_run_leaves_its_rows_and_goes_on_with_them(tmp_path, break_at, late_column):
    history = run(tmp_path / "undisturbed", late_column=late_column)
    checkpoint = Checkpoint(tmp_path / "run", 1e9)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "live", checkpoint=checkpoint, break_at=break_at, late_column=late_column)
    path = tmp_path / "live/history.csv"
    if break_at < 5:
        assert not path.exists()
        path.parent.mkdir()
    else:
        assert path.read_bytes() == written(tmp_path, history[: break_at // 5])
    # Rows of a part that is lost, as after a kill long after the last checkpoint, and a line that broke off.
    for name in ("history.csv", "pace.csv"):
        with (tmp_path / "live" / name).open("a") as file:
            file.write("24,4.8,9,9\r\n25,5.")
    run(tmp_path / "live", checkpoint=checkpoint, late_column=late_column)
    assert path.read_bytes() == (tmp_path / "undisturbed/history.csv").read_bytes()
    pace = read(tmp_path / "live/pace.csv")
    assert [row["step"] for row in pace] == ["5", "10", "15", "20", "25"]
    undisturbed = read(tmp_path / "undisturbed/pace.csv")
    for name in ("step", "epoch", "lr", "gradient_norm"):
        assert [row[name] for row in pace] == [row[name] for row in undisturbed]


def test_the_seconds_of_all_processes_are_summed(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run", 1e9)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "live", checkpoint=checkpoint, break_at=12, measure=lambda *_: time.sleep(0.2) or {})
    first = time.monotonic() - began
    time.sleep(1)
    began = time.monotonic()
    run(tmp_path / "live", checkpoint=checkpoint)
    second = time.monotonic() - began
    seconds = [float(row["seconds"]) for row in read(tmp_path / "live/pace.csv")]
    assert seconds == sorted(seconds)
    # Two rows were measured before the break; the sleep between the processes is no training.
    assert 0.4 < seconds[2] <= seconds[4] < first + second


def test_a_run_that_begins_deletes_what_another_one_left(tmp_path):
    live = tmp_path / "live"
    live.mkdir()
    for name in ("history.csv", "pace.csv", "events.out.tfevents.1.host.2"):
        (live / name).write_text("old")
    (live / "notes.txt").write_text("mine")
    Live(live).begin(State())
    assert [path.name for path in live.iterdir()] == ["notes.txt"]


def test_images_per_second_are_those_of_the_interval(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    seen = []

    def measure(seconds, rate):
        seen.append((seconds, rate))
        now[0] += 50  # of no interval
        return {"knn_acc": 0.5}

    live = Live(tmp_path, measure=measure)
    state = State(step=4, seconds_before=10.0, began=100.0)
    live.begin(state)
    for step, took in [(6, 1.0), (10, 4.0)]:
        now[0] += took
        state.step = step
        state.history.append({"step": step, "epoch": step / 2, "lr": 0.1, "loss": 1.0})
        live.row(state, images=8, gradient_norm=torch.tensor(1.5))
    assert seen == [(1.0, 16.0), (55.0, 8.0)]
    assert state.pace == [
        {"step": 6, "epoch": 3.0, "seconds": 11.0, "images_per_second": 16.0, "lr": 0.1, "gradient_norm": 1.5}
        | {"knn_acc": 0.5},
        {"step": 10, "epoch": 5.0, "seconds": 65.0, "images_per_second": 8.0, "lr": 0.1, "gradient_norm": 1.5}
        | {"knn_acc": 0.5},
    ]


def test_the_gradient_norm_is_that_before_clipping_at_the_last_step_of_an_interval(tmp_path):
    settings = FitSettings(steps=7, batch=8, interval=3, clip=1e-3, optimizer=SETTINGS.optimizer)
    history = run(tmp_path, settings=settings)
    torch.manual_seed(0)
    method, stream = Line(), batches()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9)
    expected = []
    for step in range(7):
        optimizer.zero_grad()
        method.losses(stream.at(step), None, None)["loss"].backward()
        squares = sum(float((weight.grad.double() ** 2).sum()) for weight in method.parameters())
        expected.append(squares**0.5)
        nn.utils.clip_grad_norm_(method.parameters(), 1e-3)
        optimizer.step()
    found = [float(row["gradient_norm"]) for row in read(tmp_path / "pace.csv")]
    assert found == pytest.approx([expected[2], expected[5], expected[6]], rel=1e-5)
    assert [row["step"] for row in history] == [3, 6, 7]


def test_no_other_step_computes_a_gradient_norm(monkeypatch):
    calls = []
    monkeypatch.setattr("sslpipe.engine.trainer.gradient_norm", lambda weights: calls.append(1) or torch.zeros(()))
    trainer = Trainer(Line(), batches(), SETTINGS, seed=0)
    for step in range(4):
        trainer.step(step)
    assert not calls
    trainer.step(4)
    assert calls


def test_weights_without_a_gradient_do_not_count():
    weights = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    assert gradient_norm(weights) == 0
    weights[0].grad, weights[2].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, -4.0])
    assert gradient_norm(weights) == 5


class Broken:
    """A log on a disk that is full after so many rows."""

    rows = 2

    def __init__(self, folder):
        self.left = self.rows

    def row(self, row):
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")

    def images(self, name, images, step):
        raise AssertionError

    def close(self):
        self.closed()


@pytest.mark.parametrize("rows", [0, 2])
def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys, rows):
    closed = []

    class Log(Broken):
        def closed(self):
            closed.append(1)

    Log.rows = rows
    live = Live(tmp_path, logs={"broken": Log})
    state = fit(Line(), batches(), SETTINGS, where="", seed=3, checkpoint=Checkpoint(None, 1e9), live=live)
    live.close()
    assert (tmp_path / "history.csv").read_bytes() == written(tmp_path, state.history)
    assert closed == [1]
    printed = [line for line in capsys.readouterr().out.splitlines() if "broken" in line]
    assert printed == ["--log broken: [Errno 28] No space left on device; the run goes on without it"]


def test_a_live_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "live").write_text("a file")
    history = run(tmp_path / "live")
    assert len(history) == 5
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "live" in line]
    assert "cannot be written" in line
    assert line.endswith("the run goes on")


def test_rows_are_joined_by_step():
    history, pace = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], [{"step": 2, "seconds": 3.0}]
    assert joined(history, pace) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "seconds": 3.0}]
    assert joined([{"labels": 40.0}], []) == [{"labels": 40.0}]
