"""On CUDA a step never asks the device for a value, which would wait for all that is not yet computed."""

import fnmatch
import signal
from collections import Counter
from dataclasses import replace

import pytest
import torch
from every_method import METHODS, few_labels
from pretend_device import DEVICE, pretend_cuda
from torch.utils._pytree import tree_leaves

from sslpipe.data.batches import Batches, LabelledBatches, PairedBatches
from sslpipe.data.images import Images
from sslpipe.engine import loop
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.trainer import Trainer
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.views.ctaugment import CTAugment
from sslpipe.views.policies import Views, ViewSettings
from sslpipe.views.pools import POOLS
from sslpipe.views.presets import POLICIES

BATCH = 75
"""Of 300 images: an epoch has 4 steps."""
STEPS, ALTERNATION_STEPS = 5, 17
"""Into the second epoch; the alternation's epochs are rotation, semi-supervised, rotation, clustering."""
ONE_EACH = 1
"""Labelled images of each class: with half as many as a labelled batch has, every step uses up two orders."""
EXCEPTIONS = {
    ("*", "engine/ahead.py:*"): "once for each kind of batch, views are recorded and compared with those without it",
    ("semisup/alternation*", "views/*.py:*"): "ranges and fills of views, copied at the first semi-supervised step",
    ("semisup/alternation*", "methods/semisup/alternation.py:*"): "the targets of the images that exchange them",
    ("semisup/alternation*", "objectives/alternation.py:*"): "scipy assigns the targets, on the CPU",
}
"""Methods and lines that may wait in a step → why."""


@pytest.fixture
def device():
    """The pretence of a CUDA device."""
    with pretend_cuda() as pretence:
        yield pretence


def on_device(digits, device):
    return *(Images(images.array, device) for images in digits[:2]), *digits[2:]


def build(name, digits, info, device, labels=ONE_EACH):
    """Settings, method and stream of batches, on a device."""
    digits = on_device(digits, device)
    torch.manual_seed(0)
    network = build_network(BackboneSettings(name="tiny_resnet"), info).to(device)
    settings, method = METHODS[name](digits, network)
    stream = Batches(digits[0], BATCH, seed=0, needs=method.needs())
    if hasattr(settings, "labelled_batch"):
        labelled = LabelledBatches(few_labels(digits, labels), settings.labelled_batch, seed=0)
        stream = PairedBatches(stream, labelled)
    return settings, method.to(device), stream


def fit(name, settings, method, stream, checkpoint=None):
    steps = ALTERNATION_STEPS if "alternation" in name else STEPS
    chosen = replace(settings.fit, batch=BATCH, steps=steps)
    return loop.fit(method, stream, chosen, where=name, seed=0, checkpoint=checkpoint or Checkpoint(None, 1e9))


@pytest.fixture
def asked(device, monkeypatch):
    """Counts of what steps asked of the device, but the first, and of what the loop asked between them."""
    in_steps, between = Counter(), Counter()
    step_of = Trainer.step

    def step(trainer, number):
        # Between the intervals the loop may wait, for a row of the history.
        if number and not trainer.row_is_due(number):
            between.update(device.waits + device.copies)
        device.clear()
        terms = step_of(trainer, number)
        if number:
            in_steps.update(device.waits + device.copies)
        device.clear()
        return terms

    monkeypatch.setattr(Trainer, "step", step)
    return in_steps, between


def unexpected(name, lines, *known):
    """The lines that are in none of the dicts of exceptions."""
    patterns = [pattern for each in known for pattern in each]
    return {
        line: count
        for line, count in lines.items()
        if not any(fnmatch.fnmatch(name, who) and fnmatch.fnmatch(line, where) for who, where in patterns)
    }


@pytest.mark.parametrize("name", METHODS)
def test_steps_do_not_wait(name, digits, info, device, asked, capsys):
    fit(name, *build(name, digits, info, DEVICE))
    assert "without a CUDA graph" not in capsys.readouterr().out
    in_steps, between = asked
    assert unexpected(name, in_steps, EXCEPTIONS) == {}
    assert between == {}


@pytest.mark.parametrize("name", ["pretrain/simclr", "cluster/scan", "semisup/fixmatch"])
def test_images_that_do_not_fit_are_copied_without_a_wait(name, digits, info, device, asked):
    device.free = 0
    fit(name, *build(name, digits, info, DEVICE))
    in_steps, between = asked
    assert unexpected(name, in_steps, EXCEPTIONS) == {}
    assert between == {}


@pytest.mark.parametrize("name", METHODS)
def test_losses_and_weights_are_those_of_the_cpu(name, digits, info, monkeypatch, tmp_path):
    monkeypatch.setenv("SSLPIPE_PRECISION", "float32")
    monkeypatch.setattr("os.fsync", lambda file: None)  # slow, and of no use to a test
    # With fewer labels rounding decides which of two equal clusters an image gets.
    settings, method, stream = build(name, digits, info, torch.device("cpu"), labels=4)
    expected = fit(name, settings, method, stream).history
    weights = dict(method.state_dict())
    with pretend_cuda():
        settings, method, stream = build(name, digits, info, DEVICE, labels=4)
        checkpoint = Checkpoint(tmp_path, 1e9)
        history = fit(name, settings, method, stream, checkpoint).history
        found = {key: value.cpu() for key, value in method.state_dict().items()}
        settings, restored, stream = build(name, digits, info, DEVICE, labels=4)
        assert fit(name, settings, restored, stream, checkpoint).history == history
        for key, value in restored.state_dict().items():
            assert value.device == DEVICE
            assert torch.equal(value.cpu(), found[key]), key
    assert [row.keys() for row in history] == [row.keys() for row in expected]
    for row, other in zip(history, expected, strict=True):
        # SCAN's neighbours are drawn by a generator of their own on a device, hence other views.
        # The order of sums differs with the layout of the weights, and few held-out images make large steps.
        trained, held_out = ({key for key in row if key.startswith("held_out") is held} for held in (False, True))
        assert {key: row[key] for key in trained} == pytest.approx(
            {key: other[key] for key in trained}, rel=1e-2 if name == "cluster/scan" else 1e-3
        )
        assert {key: row[key] for key in held_out} == pytest.approx({key: other[key] for key in held_out}, abs=0.1)
    own, other = (torch.cat([each[key].double().flatten() for key in sorted(weights)]) for each in (found, weights))
    finite = other.isfinite()  # the best loss of a method that has not yet found one is infinite
    assert (own - other)[finite].norm() <= 1e-2 * other[finite].norm()


@pytest.mark.parametrize("name", ["pretrain/swav", "pretrain/dino", "semisup/simmatch teacher", "self_label/confident"])
def test_a_run_goes_on_from_its_checkpoint_on_the_device(name, digits, info, device, monkeypatch, tmp_path):
    monkeypatch.setattr("os.fsync", lambda file: None)
    settings, whole, stream = build(name, digits, info, DEVICE)
    history = fit(name, settings, whole, stream).history
    settings, broken, stream = build(name, digits, info, DEVICE)
    after_step = broken.after_step
    broken.after_step = lambda: (after_step(), broken.progress.step == STEPS - 2 and signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(name, settings, broken, stream, Checkpoint(tmp_path, 1e9))
    settings, resumed, stream = build(name, digits, info, DEVICE)
    assert fit(name, settings, resumed, stream, Checkpoint(tmp_path, 1e9)).history == history
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key


@pytest.mark.parametrize("policy", POLICIES)
def test_views_do_not_wait_and_can_be_captured(policy, digits, device):
    image = torch.as_tensor(digits[0].array[:40]).to(DEVICE)
    views, generator = Views(ViewSettings(policy=policy), [0.5]), torch.Generator(DEVICE)
    pool = views.settings.operation_ranges
    ctaugment = CTAugment(list(POOLS[pool].operations), pool=pool).to(DEVICE)
    for operations in (None, ctaugment):
        views(image, generator.manual_seed(1), operations)
        device.clear()
        expected = views(image, generator.manual_seed(2), operations)
        assert device.waits + device.copies == {}
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            found = views(image, generator, operations)
        generator.manual_seed(2)
        graph.replay()
        for one, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
            assert torch.equal(one, other)


PLANTED = {
    "value.sum().item()": "_local_scalar_dense",
    "value[value > 0]": "mask",
    "value.unique()": "_unique2",
    "value.sum().cpu()": "copy to the host",
    "torch.tensor([1.0, 2.0], device=value.device)": "without non_blocking",
    "torch.ones(3).to(value.device, non_blocking=True)": "memory that is not pinned",
    "value[torch.zeros(2, dtype=torch.int64)]": "indices on the CPU",
}
RAISING = {
    "value + torch.ones(value.shape)": "Expected all tensors to be on the same device",
    "torch.rand(3, device=value.device, generator=torch.Generator())": "Expected a 'cuda' device type for generator",
}


@pytest.fixture
def planted(digits, info, device, asked):
    """Run a few steps in which a view or the loss runs a line of code as well; return the lines that waited."""

    def run(place, code, monkeypatch):
        settings, method, stream = build("pretrain/simclr", digits, info, DEVICE)
        owner, name = (Views, "__call__") if place == "view" else (type(method), "losses")
        original = getattr(owner, name)
        # A line of the package, as far as the pretence is concerned.
        line = compile(code, f"{device.folder}/planted.py", "eval")

        def with_line(self, given, generator, *rest):
            value = given if place == "view" else given.image
            eval(line, {"torch": torch, "value": value.float()})
            return original(self, given, generator, *rest)

        monkeypatch.setattr(owner, name, with_line)
        fit("pretrain/simclr", settings, method, stream)
        return unexpected("pretrain/simclr", asked[0], EXCEPTIONS)

    return run


@pytest.mark.parametrize("place", ["view", "loss"])
@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_wait_is_found(place, code, planted, monkeypatch):
    assert planted(place, code, monkeypatch) == {f"planted.py:1   [{PLANTED[code]}]": STEPS - 1}


@pytest.mark.parametrize("place", ["view", "loss"])
@pytest.mark.parametrize("code", RAISING)
def test_a_planted_tensor_or_generator_of_the_cpu_raises(place, code, planted, monkeypatch):
    with pytest.raises(RuntimeError, match=RAISING[code]):
        planted(place, code, monkeypatch)
