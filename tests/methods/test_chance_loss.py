"""The value of each method's loss for a model that knows nothing: that of a network whose weights are all 0."""

from dataclasses import replace
from math import exp, log, sqrt

import pytest
import torch
from every_method import METHODS, losses_of, pretext, stream_of, train, with_labels
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.engine.method import BaseMethod, Progress
from sslpipe.io.params import find_module, siblings
from sslpipe.io.stages import TRAINING_STAGES, key_of
from sslpipe.methods.pretrain import feature_decoupling
from sslpipe.methods.pretrain._memory import nce_at_chance
from sslpipe.methods.semisup import fixmatch, simmatch, suave, uda
from sslpipe.objectives.alternation import clustering
from sslpipe.objectives.byol import regression
from sslpipe.objectives.scan import scan
from sslpipe.objectives.self_label import confident_cross_entropy

BATCH = 30
WITHOUT = {"semisup/mixmatch"}
"""Methods whose loss has no value at chance."""
OWN_TEST = {"self_label/confident"}
"""Methods that skip images without knowledge; what they lose on others is tested by itself."""
EPOCHS = {
    "pretrain/nce softmax": 10,
    "pretrain/nce noise": 30,
    "pretrain/swav": 15,
}
"""Of those that begin above the value at chance, with a memory or prototypes that are random."""
FALLING = [
    *("pretrain/simclr", "pretrain/nce softmax", "pretrain/nce noise", "pretrain/byol", "pretrain/rotnet"),
    *("pretrain/feature_decoupling", "pretrain/swav", "cluster/scan"),
    "semisup/supervised",
]
"""Methods whose loss as a whole falls in every useful run."""
LOW = {"labelled_batch": 20, "threshold": 0.05, "ema_decay": 0.9}


def knows_nothing(settings, method):
    """The method with weights of 0, for batches of BATCH images."""
    if hasattr(method, "settings"):
        method.settings = replace(settings, fit=replace(settings.fit, batch=BATCH))
    for weight in method.parameters():
        weight.detach().zero_()
    if hasattr(method, "memory") and hasattr(method.memory, "rows"):
        method.memory.rows.zero_()
    return method


def loss_of(method, settings, digits, step=0):
    """Its loss of the batch of a step, and what it says is the value at chance."""
    stream = stream_of(digits, settings, method, BATCH)
    method.train()
    method.progress = Progress(step, 100, 10)
    loss = losses_of(method, stream.at(step), torch.Generator().manual_seed(0))["loss"].item()
    method.progress = Progress(step + 1, 100, 10)
    return loss, method.chance_loss()


@pytest.mark.parametrize("name", METHODS)
def test_it_is_the_loss_of_a_network_that_knows_nothing(name, digits, network):
    settings, method = METHODS[name](digits, network)
    if name in WITHOUT:
        assert method.chance_loss() is None
    elif name not in OWN_TEST:
        loss, chance = loss_of(knows_nothing(settings, method), settings, digits)
        assert loss == pytest.approx(chance, rel=1e-4)


@pytest.mark.parametrize("stage", [key_of(stage) for stage in TRAINING_STAGES])
def test_no_method_is_without_a_decision(stage):
    for name in siblings(f"sslpipe.methods.{stage}"):
        method = find_module(f"sslpipe.methods.{stage}", name, where="name").Method
        # The others find their model at once and have no loss.
        assert not issubclass(method, BaseMethod) or method.chance_loss is not BaseMethod.chance_loss


@pytest.mark.parametrize("name", FALLING)
def test_training_ends_below_it(name, digits, network):
    settings, method = METHODS[name](digits, network)
    assert "loss" in method.falling
    settings = replace(settings, fit=replace(settings.fit, batch=50))
    if hasattr(method, "settings"):
        method.settings = settings
    last = train(name, digits, settings, method, batch=50, epochs=EPOCHS.get(name, 5), lr=3e-3)[-1]
    assert last["loss"] < method.chance_loss()


@pytest.mark.parametrize(
    ("module", "further"),
    [
        (fixmatch, {}),
        (fixmatch, {"threshold": 0.11, "alignment": True}),
        (uda, {}),
        (uda, {"unlabelled_weight": 3.0}),
        (simmatch, {"instance_from_epoch": 1.0}),
        (simmatch, {"unlabelled_weight": 3.0, "instance_weight": 2.0}),
    ],
)
def test_a_low_threshold_adds_the_unlabelled_images(module, further, digits, network):
    settings, method = with_labels(module, **LOW | further)(digits, network)
    knows_nothing(settings, method)
    for step in (0, 9, 10):
        loss, chance = loss_of(method, settings, digits, step)
        assert loss == pytest.approx(chance, rel=1e-4)


@pytest.mark.parametrize("mix_unlabelled", ["none", "global", "all"])
@pytest.mark.parametrize("mix_with", ["same_view", "next_view"])
@pytest.mark.parametrize("mix_labelled", [False, True])
def test_the_monitors_of_suave_count(mix_unlabelled, mix_with, mix_labelled, digits, network):
    given = {"mix_unlabelled": mix_unlabelled, "mix_with": mix_with, "mix_labelled": mix_labelled, "mix_weight": 0.5}
    crops = {"local_crops": 2, "hidden": 32, "outputs": 16, "labelled_batch": 20}
    settings, method = with_labels(suave, **crops, **given)(digits, network)
    loss, chance = loss_of(knows_nothing(settings, method), settings, digits)
    assert chance > log(10)
    assert loss == pytest.approx(chance, rel=1e-4)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_ambiguous_rotations_count_less(gamma, digits, network):
    given = {"negatives": 32, "outputs": 16, "ambiguity_from": 0.5, "gamma": gamma, "rotation_weight": 2.0}
    settings, method = pretext(feature_decoupling, **given)(digits, network)
    knows_nothing(settings, method)
    before, chance = loss_of(method, settings, digits, 49)
    assert before == pytest.approx(chance, rel=1e-4)
    method.upright.fill_(0.25)
    after, chance = loss_of(method, settings, digits, 50)
    assert after == pytest.approx(chance, rel=1e-4)
    assert after < before


def test_the_phases_of_the_alternation_have_values_of_their_own(digits, network):
    settings, method = METHODS["semisup/alternation"](digits, network)
    found = []
    for epoch in range(4):  # rotation, semi-supervised, rotation, clustering
        method.progress = Progress(10 * epoch + 10, 100, 10)
        found.append(method.chance_loss())
    assert found == pytest.approx([log(4), log(10), log(4), 2 - 2 / sqrt(10)])
    method.settings = replace(settings, reduction="mean")
    assert method.chance_loss() == pytest.approx((2 - 2 / sqrt(10)) / 10)


@given(st.integers(1, 12), st.integers(2, 12))
def test_objectives_of_equal_outputs(images, classes):
    equal = torch.zeros(images, classes)
    loss = scan(equal, equal, entropy_weight=3.0)["loss"].item()
    p = [[1 / classes] * classes for _ in range(images)]
    agreement = -sum(log(sum(a * a for a in row)) for row in p) / images
    entropy = -sum(sum(row[c] for row in p) / images * log(sum(row[c] for row in p) / images) for c in range(classes))
    assert loss == pytest.approx(agreement - 3 * entropy, abs=1e-5)
    assert loss == pytest.approx((1 - 3) * log(classes), abs=1e-5)

    sure = 50 * torch.eye(classes)[torch.arange(images) % classes]
    terms = confident_cross_entropy(sure, equal, threshold=0.9, balance=True)
    assert terms["loss"].item() == pytest.approx(log(classes), abs=1e-5)

    rows = torch.full((images, classes), classes**-0.5)
    loss = clustering(rows, torch.arange(images) % classes, radius=0.0)["loss"].item()
    other = (1 - classes**-0.5) ** 2 + (classes - 1) / classes
    assert loss == pytest.approx(other, abs=1e-5)
    assert other == pytest.approx(2 - 2 / sqrt(classes))

    orthogonal = torch.eye(2).repeat_interleave(images, dim=0).chunk(2)
    assert regression(*orthogonal).item() == pytest.approx(2)


@given(st.integers(1, 5000))
def test_noise_contrast_of_equally_likely_images(noise):
    h = 1 / (1 + noise)  # P / (P + M P_n) with P = P_n = 1/N
    expected = -log(h) - noise * log(1 - h)
    assert nce_at_chance(noise) == pytest.approx(expected)
    assert noise * log(noise) - (noise + 1) * log(noise + 1) == pytest.approx(-expected, abs=1e-6)
    assert exp(-expected) <= h
