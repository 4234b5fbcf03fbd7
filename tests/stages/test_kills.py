"""A sample of `python -m benchmarks.kills`: stages that a signal ends at a random moment, and their second runs."""

import random
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.kills import BY_DVC, DIRECT, ROOT, STAGES, Project, kill, small


class Nested(torch.autograd.Function):
    """A backward pass within a backward pass, `depth` times."""

    @staticmethod
    def forward(ctx, value, depth):
        ctx.depth = depth
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.depth:
            with torch.enable_grad():
                Nested.apply(torch.ones(1, requires_grad=True), ctx.depth - 1).backward()
        return gradient, None


@pytest.fixture(scope="module", autouse=True)
def threads():
    """Deep passes of torch have threads, and a fork of this process cannot train after them."""
    Nested.apply(torch.ones(1, requires_grad=True), 100).backward()


@pytest.fixture(scope="module")
def killable(tmp_path_factory):
    tree = small(yaml.safe_load((ROOT / "params.yaml").read_text()))
    stages = {name: STAGES[name] for name in ("prepare", "pretrain")}
    project = Project(tmp_path_factory.mktemp("kills") / "project", tree, stages)
    project.run()
    return project


def test_an_undisturbed_run_has_its_history_in_the_live_folder(killable):
    live, history = (
        killable.expected[Path("runs", *name, "history.csv")] for name in (("live", "pretrain"), ["pretrain"])
    )
    assert live == history
    assert live.count(b"\n") == 11


@pytest.mark.parametrize(
    ("stage", "name", "by_dvc"),
    [
        ("pretrain", "SIGKILL to the stage", False),
        ("pretrain", "SIGTERM to dvc", True),
        ("prepare", "SIGINT to the stage", False),
        ("prepare", "SIGKILL to the stage", False),
    ],
)
def test_a_killed_stage_ends_with_the_same_files_when_it_runs_again(killable, stage, name, by_dvc):
    (kind,) = (kind for kind in [*DIRECT, *BY_DVC] if kind.name == name)
    after = random.Random(name).uniform(0.5, 1.0) * killable.seconds[stage, by_dvc]
    outcome = kill(killable, stage, kind, after, fresh=by_dvc)
    assert outcome.faults == []
