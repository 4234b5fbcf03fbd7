"""Runs that share a checkpoint, and checkpoints that cannot be written."""

import os

import torch

from sslpipe.engine.checkpoint import Checkpoint, State
from sslpipe.engine.method import BaseMethod


class Line(BaseMethod):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)

    def draw_views(self, batch, generator):
        return None

    def losses(self, batch, views, generator):
        return {"loss": self.net.weight.sum()}


def saved(checkpoint, step):
    method = Line()
    checkpoint.save(State(step=step), method, torch.optim.SGD(method.parameters(), lr=0.1))


def loaded(checkpoint):
    method = Line()
    return checkpoint.load(method, torch.optim.SGD(method.parameters(), lr=0.1)).step


def test_a_second_run_of_the_same_settings_trains_without_checkpoints(tmp_path, capsys):
    folder = tmp_path / "checkpoints" / "run"
    with Checkpoint(folder, 0) as first:
        saved(first, 3)
        with Checkpoint(folder, 0) as second:
            told = f"{folder}: another sslpipe, process {os.getpid()}, is writing it; this run has no checkpoint"
            assert capsys.readouterr().out.startswith(told)
            assert loaded(second) == 0
            assert not second.due()
            saved(second, 9)
        second.remove()
        assert loaded(first) == 3
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    first.remove()
    assert not list(folder.parent.iterdir())


def test_a_checkpoint_that_cannot_be_written_is_told_once_and_the_earlier_one_stays(tmp_path, capsys):
    checkpoint = Checkpoint(tmp_path / "run", 0)
    saved(checkpoint, 3)
    partial = tmp_path / "run" / ".run.safetensors.partial"
    for step in (4, 5):
        partial.symlink_to("/dev/full")
        saved(checkpoint, step)
    told = "run.safetensors: cannot be written: No space left on device; the run goes on, but if it is stopped it "
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.endswith(told + "resumes after step 3\n")
    assert loaded(checkpoint) == 3
    saved(checkpoint, 6)
    assert capsys.readouterr().out == ""
    assert loaded(checkpoint) == 6


def test_a_checkpoint_that_cannot_be_read_means_starting_anew(tmp_path, capsys):
    (tmp_path / "run" / "run.safetensors").mkdir(parents=True)
    assert loaded(Checkpoint(tmp_path / "run", 0)) == 0
    assert "not readable" in capsys.readouterr().out
