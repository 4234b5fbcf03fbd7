"""Views that are drawn one step ahead by a CUDA graph, on a device that is not there (tests/pretend_device.py).

That all methods learn the same from them as on a CPU is in test_no_waiting.py.
"""

import itertools
from dataclasses import replace

import pytest
import torch
from every_method import METHODS, stream_of
from pretend_device import DEVICE, pretend_cuda

from sslpipe.data.images import Images
from sslpipe.engine import ahead
from sslpipe.engine.ahead import AHEAD, DrawingAhead
from sslpipe.engine.trainer import Trainer
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.views.policies import Views

SIMCLR, CTAUGMENT, SCAN = "pretrain/simclr", "semisup/fixmatch ctaugment alignment", "cluster/scan"


@pytest.fixture
def build(digits, info):
    """A function that builds a method's trainer on the device."""

    def trainer(name, steps=6):
        own = *(Images(images.array, DEVICE) for images in digits[:2]), *digits[2:]
        torch.manual_seed(0)
        settings, method = METHODS[name](own, build_network(BackboneSettings(name="tiny_resnet"), info).to(DEVICE))
        stream = stream_of(own, settings, method.to(DEVICE), 75)
        return Trainer(method.train(), stream, replace(settings.fit, batch=75, steps=steps), seed=0)

    with pretend_cuda():
        yield trainer


def consume(steps):
    for _ in steps:
        pass


def losses(trainer, steps):
    return [trainer.step(step)["loss"].item() for step in steps]


@pytest.mark.parametrize("name", [SIMCLR, SCAN, CTAUGMENT])
def test_the_losses_are_those_of_views_drawn_within_the_steps(name, build, monkeypatch, capsys):
    trainer = build(name)
    found, drawing = losses(trainer, range(6)), trainer._drawing
    monkeypatch.setenv(AHEAD, "0")
    within = build(name)
    assert losses(within, range(6)) == found
    assert not isinstance(within._drawing, DrawingAhead)
    # CTAugment learns from the network before the views are drawn.
    recorded = [len(buffers.recorded) for buffers in drawing._buffers]
    assert recorded == ([0, 0] if name == CTAUGMENT else [1, 1])
    assert "views:" not in capsys.readouterr().out


def test_python_draws_each_of_the_two_buffers_alone(build, monkeypatch):
    calls, view_of = [], Views.__call__
    monkeypatch.setattr(Views, "__call__", lambda *given, **named: calls.append(1) or view_of(*given, **named))
    trainer = build(SIMCLR, steps=12)
    losses(trainer, range(12))
    assert len(calls) == 4  # in each for the comparison, and to record


@pytest.mark.parametrize("first", [3, 4])
def test_a_run_may_begin_at_any_step(build, first):
    whole, rest = build(SIMCLR), build(SIMCLR)
    losses(whole, range(first))
    rest.method.load_state_dict(whole.method.state_dict())
    assert losses(rest, [first]) == losses(whole, [first])


@pytest.mark.parametrize("event", ["filled", "used"])
def test_neither_of_the_two_waits_can_be_left_out(event, build):
    # The device that is not there raises where one stream uses what another one has not finished.
    trainer = build(SIMCLR)
    for buffers in trainer._drawing._buffers:
        getattr(buffers, event).record = lambda stream: None
    with pytest.raises(RuntimeError, match="stream"):
        # No value is read between the steps, which would wait for all streams.
        consume(trainer.step(step) for step in range(4))


def test_views_that_read_a_value_are_drawn_within_the_steps_and_a_line_says_so(build, monkeypatch, capsys):
    view_of = Views.__call__
    expected = losses(build(SIMCLR), range(4))

    def reading(self, image, *rest):
        image.sum().item()
        return view_of(self, image, *rest)

    monkeypatch.setattr(Views, "__call__", reading)
    assert losses(build(SIMCLR), range(4)) == expected
    shown = capsys.readouterr().out
    assert shown.count("views: drawn without a CUDA graph") == 1
    assert "not permitted when stream is capturing" in shown


def test_views_that_a_graph_would_not_repeat_are_drawn_within_the_steps(build, monkeypatch, capsys):
    counted, view_of = itertools.count(), Views.__call__
    monkeypatch.setattr(Views, "__call__", lambda *given, **named: view_of(*given, **named) * (1 + next(counted)))
    trainer = build(SIMCLR)
    losses(trainer, range(2))
    assert "they would differ from those without it" in capsys.readouterr().out
    assert trainer._drawing._failed


def test_tensors_are_found_in_lists_tuples_and_dataclasses():
    drawn = ahead.Recorded(None, [torch.zeros(2), (torch.ones(1), None)], torch.ones(3))
    assert [len(each) for each in ahead.tensors(drawn)] == [2, 1, 3]
    doubled = ahead.mapped(lambda tensor: tensor * 2, drawn)
    assert [each.sum().item() for each in ahead.tensors(doubled)] == [0, 2, 6]
    assert doubled.batch[1][1] is None
