"""The benchmarks' own arithmetic, and that all of their parts can be found; no times."""

import importlib
import json

import pytest
import torch

from benchmarks.__main__ import parts
from benchmarks.measure import Rounds, Spread, interleave
from benchmarks.report import Table
from benchmarks.steps import Pass, Setup, bare, demonstration, images, published, trainer, watched
from sslpipe.nets.network import BackboneSettings

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", parts())
def test_every_part_measures(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_implementations_are_interleaved_and_warmed_up():
    order = []
    rounds = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert [len(rounds.seconds[name]) for name in "ab"] == [2, 2]


def test_ratios_are_taken_within_a_round():
    # A machine that is ten times slower in the second round changes neither ratio.
    rounds = Rounds({"a": [1.0, 10.0, 2.0], "b": [2.0, 20.0, 4.0]})
    assert rounds.ratio("b", "a") == Spread(2.0, 2.0, 2.0)
    assert rounds.rate("a", 10).median == 5.0


def test_a_table_is_markdown_and_json():
    table = Table("Title", ("name", "figure"), [["a", Spread(1.5, 1.0, 2000.0)], ["b", 0.25]], "Note.")
    assert table.markdown().splitlines()[-2:] == ["| a | 1.5 (1 to 2,000) |", "| b | 0.25 |"]
    assert json.loads(json.dumps(table.json()))["rows"][0] == ["a", {"median": 1.5, "low": 1.0, "high": 2000.0}]


SETUP = Setup(BackboneSettings(name="tiny_resnet"), images(300, 1, 8, CPU), 10)
SIZE = (1, 8, 8)
PASSES = {
    ("pretrain", "simclr"): [Pass((20, *SIZE), True, True)],
    ("cluster", "scan"): [Pass((20, *SIZE), True, True)],
    # The average answers.
    ("self_label", "confident"): [Pass((10, *SIZE), False, False), Pass((10, *SIZE), True, True)],
    ("semisup", "fixmatch"): [Pass((40 + 2 * 10, *SIZE), True, True)],
    # 40 labelled, two crops; those once more through the momentum encoder.
    ("semisup", "suave"): [Pass((40 + 2 * 10, *SIZE), True, True), Pass((20, *SIZE), False, False)],
}


@pytest.mark.parametrize("method", PASSES, ids=str)
def test_the_bare_pass_repeats_what_the_step_sends_through_the_network(method):
    trained = trainer(*method, demonstration()[method], SETUP)
    network = trained.method.network
    with watched(network) as passes:
        trained.step(0)
    assert passes == PASSES[method]
    with watched(network) as again:
        bare(network, list(passes), CPU)()
    assert again == passes
    assert all(weight.grad is not None for weight in network.backbone.parameters())


def test_settings_are_there_for_every_method_that_is_measured():
    assert len(demonstration()) >= 18
    assert {method for _, method in published()} == {"simclr", "scan", "confident", "fixmatch", "simmatch", "suave"}
