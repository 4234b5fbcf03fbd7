from dataclasses import replace
from math import log

import pytest
import torch
from every_method import losses_of

from sslpipe.io.errors import UserError
from sslpipe.methods.semisup.fixmatch import Method, Settings
from sslpipe.views.ctaugment import Probe
from sslpipe.views.policies import ViewSettings, plain
from sslpipe.views.pools import POOLS

PLAIN = ViewSettings(policy="plain")


def forwards(method):
    """A list that fills with (train mode, images) of each forward of the method's network."""
    seen = []
    method.network.register_forward_pre_hook(lambda module, images: seen.append((module.training, len(images[0]))))
    return seen


@pytest.mark.parametrize("alignment", [False, True])
def test_labelled_weak_and_strong_images_go_through_one_forward(problem, pair, generator, alignment):
    method = Method(Settings(alignment=alignment), problem)
    seen = forwards(method)
    losses_of(method, pair, generator)
    assert seen == [(True, 20 + 30 + 30)]


@pytest.mark.parametrize("normalize_by", ["batch", "confident"])
def test_the_loss_is_that_of_the_papers_algorithm(problem, pair, normalize_by):
    given = {"threshold": 0.16, "unlabelled_weight": 3.0, "alignment": True, "label_smoothing": 0.1}
    settings = Settings(normalize_by=normalize_by, **given)
    method = Method(settings, problem)
    terms = losses_of(method, pair, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    weak = method.views(torch.cat([pair.labelled.image, pair.unlabelled.image]), generator)
    strong = method.strong(pair.unlabelled.image, generator)
    logits = method.network(torch.cat([weak, strong])).double().detach()
    labelled, predictions, strong = logits[:20], logits[20:50].softmax(dim=1), logits[50:]

    known = 0.0
    for logit, label in zip(labelled, pair.labelled.label, strict=True):
        target = [0.9 * (label == c) + 0.1 / 10 for c in range(10)]
        known -= sum(t * logit.log_softmax(0)[c] for c, t in enumerate(target)) / 20
    average = predictions.mean(dim=0)
    counts = torch.bincount(problem.labelled.label).double()
    kept, total = 0, 0.0
    for prediction, logit in zip(predictions, strong, strict=True):
        aligned = prediction * counts / counts.sum() / average
        aligned /= aligned.sum()
        if aligned.max() >= 0.16:
            kept += 1
            total -= logit.log_softmax(0)[aligned.argmax()]
    assert 0 < kept < 30
    unlabelled = total / (30 if normalize_by == "batch" else kept)
    assert terms["confident"].item() == pytest.approx(kept / 30)
    assert terms["loss"].item() == pytest.approx((known + 3 * unlabelled).item(), rel=1e-4)


def test_predictions_are_aligned_with_the_labels_given(problem, labelled):
    uneven = replace(labelled, index=labelled.index[:20], label=torch.arange(20).clamp(max=9))
    method = Method(Settings(alignment=True), replace(problem, labelled=uneven))
    torch.testing.assert_close(method.align.target, torch.tensor([0.05] * 9 + [0.55]))


def test_the_rates_learn_what_the_network_still_sees(problem, pair, generator, monkeypatch):
    strong = ViewSettings(policy="randaugment", operation_names=("identity",))
    method = Method(Settings(ctaugment=True, views=PLAIN, strong=strong), problem)
    identity = method.ctaugment.names.index("identity")
    chosen = torch.zeros(2, 20, dtype=torch.int64)
    bins = torch.stack([torch.zeros(20, dtype=torch.int64), torch.arange(20) % 5 + 1])
    monkeypatch.setattr(method.ctaugment, "probe", lambda draw: Probe(chosen, bins[None], (bins[None] + 0.5) / 17))
    images = plain(pair.labelled.image)
    prediction = method.network.eval()(images).softmax(dim=1).detach()
    method.network.train()
    expected = torch.ones(len(method.ctaugment.names), 1, 17)
    for image, label in enumerate(pair.labelled.label):
        match = prediction[image, label]
        for each in bins[:, image]:
            expected[identity, 0, each] = 0.99 * expected[identity, 0, each] + 0.01 * match
    seen = forwards(method)
    losses_of(method, pair, generator)
    torch.testing.assert_close(method.ctaugment.rates, expected)
    assert seen == [(False, 20), (True, 80)]
    assert torch.equal(method.state_dict()["ctaugment.rates"], method.ctaugment.rates)


def test_the_network_sees_probed_images_and_strong_views_by_ctaugment(problem, pair, generator, monkeypatch):
    strong = ViewSettings(policy="randaugment", cutout=0.0)
    method = Method(Settings(ctaugment=True, views=PLAIN, strong=strong), problem)
    probes, seen = [], []
    probe = method.ctaugment.probe
    monkeypatch.setattr(method.ctaugment, "probe", lambda draw: probes.append(probe(draw)) or probes[-1])
    method.ctaugment.register_forward_hook(lambda module, given, view: torch.full_like(view, 0.25))
    method.network.register_forward_pre_hook(lambda module, images: seen.append(images[0]))
    losses_of(method, pair, generator)
    images = plain(pair.labelled.image)
    torch.testing.assert_close(seen[0], method.ctaugment.apply_probe(images, probes[0]))
    assert not torch.allclose(seen[0], images, atol=1e-2)
    torch.testing.assert_close(seen[1][:20], images)
    torch.testing.assert_close(seen[1][50:], torch.full_like(seen[1][50:], 0.25))


def test_labelled_images_alone_are_jittered_if_the_weak_views_are_others(problem, pair, generator, monkeypatch):
    bright = ViewSettings(policy="plain", brightness=0.9)
    given = {
        "views": bright,
        "weak": PLAIN,
        "strong": ViewSettings(policy="randaugment", operation_names=("identity",)),
    }
    method = Method(Settings(ctaugment=True, **given), problem)
    probes, seen = [], []
    probe = method.ctaugment.probe
    monkeypatch.setattr(method.ctaugment, "probe", lambda draw: probes.append(probe(draw)) or probes[-1])
    method.network.register_forward_pre_hook(lambda module, images: seen.append(images[0]))
    losses_of(method, pair, generator)
    probed, (labelled, weak) = seen[0], (seen[1][:20], seen[1][20:50])
    torch.testing.assert_close(probed, method.ctaugment.apply_probe(plain(pair.labelled.image), probes[0]))
    assert torch.equal(weak, plain(pair.unlabelled.image))
    assert (labelled - plain(pair.labelled.image)).abs().flatten(1).amax(dim=1).gt(0.01).sum() > 10


def test_ctaugment_has_the_operations_of_the_strong_policy(problem):
    strong = ViewSettings(policy="strong", operations=3, operation_names=("shear_x", "solarize"))
    ctaugment = Method(Settings(ctaugment=True, strong=strong), problem).ctaugment
    assert (ctaugment.depth, set(ctaugment.names)) == (3, {"shear_x", "solarize"})
    assert ctaugment.pool is POOLS["scan"]
    ctaugment = Method(Settings(ctaugment=True, strong=ViewSettings(policy="ctaugment_code")), problem).ctaugment
    assert (ctaugment.depth, set(ctaugment.names)) == (2, set(POOLS["ctaugment_code"].operations))
    assert (ctaugment.threshold, ctaugment.decay, len(ctaugment.names)) == (0.8, 0.99, 19)


def test_the_rates_move_at_the_probed_bins_alone_and_not_with_strong_views(problem, pair, generator, monkeypatch):
    method = Method(Settings(ctaugment=True), problem)
    probes = []
    probe = method.ctaugment.probe
    monkeypatch.setattr(method.ctaugment, "probe", lambda draw: probes.append(probe(draw)) or probes[-1])
    losses_of(method, pair, generator)
    probed = torch.zeros(method.ctaugment.rates.shape, dtype=torch.bool)
    probed[probes[0].chosen, 0, probes[0].bins[0]] = True
    assert torch.equal(method.ctaugment.rates < 1, probed)
    before = method.ctaugment.rates.clone()
    method.strong(pair.unlabelled.image, generator, operations=method.ctaugment)
    assert torch.equal(method.ctaugment.rates, before)


def test_ctaugment_without_operations_is_a_users_mistake(problem):
    with pytest.raises(UserError, match=r"^ctaugment: the strong policy has no operations[^\n]*$"):
        Method(Settings(ctaugment=True, strong=PLAIN), problem)


def test_nothing_confident_leaves_the_labels_alone(problem, pair, generator):
    terms = losses_of(Method(Settings(threshold=1.0), problem), pair, generator)
    assert terms["unlabelled"] == 0
    assert torch.equal(terms["loss"], terms["labelled"])
    assert terms["labelled"].item() == pytest.approx(log(10), abs=1.0)
