"""What Suave and Daino share."""

import copy
from dataclasses import replace

import pytest
import torch
from every_method import CROP, LABELLED_METHODS, SMALL_CROP, WEAK, losses_of, outputs_of, train
from torch.nn import functional as F

from sslpipe.data.batches import Batch, LabelledBatch, Pair
from sslpipe.data.held_out import HeldOut
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.errors import UserError
from sslpipe.methods.semisup import _prototype_start, _prototypes, daino, suave
from sslpipe.methods.semisup._base import Problem
from sslpipe.nets import inference
from sslpipe.nets.heads import InstanceHead, InstanceSettings, PrototypeHead, PrototypeSettings
from sslpipe.nets.inference import infer
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.views.mixing import MixSettings

SETTINGS = {"views": WEAK, "hidden": 32, "outputs": 16, "global_views": CROP, "local_views": SMALL_CROP}
BOTH = pytest.mark.parametrize("module", [suave, daino], ids=["suave", "daino"])


def build(module, problem, **settings):
    queue = {"queue": 0} if module is suave else {}
    return module.Method(module.Settings(**{**SETTINGS, **queue, **settings}), problem)


@pytest.fixture
def weighed(monkeypatch):
    """A list that fills with (losses, counts) as they are weighed."""
    seen = []
    weigh = _prototypes.multi_task
    monkeypatch.setattr(
        _prototypes, "multi_task", lambda losses, counts: seen.append((losses, counts)) or weigh(losses, counts)
    )
    return seen


@BOTH
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 20 labelled and as many mixed; 2 + 3 crops of 30 images; the two global ones once more, mixed.
        ({"mix_labelled": True, "mix_unlabelled": "global"}, [40, 150, 60]),
        ({"mix_labelled": True, "mix_unlabelled": "all"}, [40, 150, 150]),
        ({"mix_labelled": False, "mix_unlabelled": "none"}, [20, 150]),
    ],
)
def test_losses_count_by_their_predictions(module, problem, pair, generator, weighed, settings, expected):
    method = build(module, problem, local_crops=3, monitors=False, **settings)
    terms = losses_of(method, pair, generator)
    [(losses, counts)] = weighed
    assert counts == expected
    by_hand = sum(loss.item() * count for loss, count in zip(losses, expected, strict=True)) / sum(expected)
    assert terms["loss"].item() == pytest.approx(by_hand, rel=1e-5)
    assert losses[:2] == [terms["labelled"], terms["swapped"]]


def pair_of(digits, unlabelled, labelled_batch):
    """A batch of some size, of images that may occur twice."""
    index = torch.arange(unlabelled) % len(digits[0])
    known = torch.arange(labelled_batch) % len(digits[0])
    labels = torch.as_tensor(digits[2])[known]
    return Pair(
        labelled=LabelledBatch(image=digits[0][known], index=known, label=labels),
        unlabelled=Batch(image=digits[0][index], index=index),
    )


RELEASED = {"mix_with": "next_view", "mixing": MixSettings(drawn_per="batch")}


@pytest.mark.parametrize(
    ("batches", "crops", "mix_unlabelled", "mix_weight", "counts", "shares"),
    [
        # Public code, ImageNet, one GPU: 32 labelled with the mixed ones, 10 views of 32 images, 1 mixed view.
        ((32, 16), 8, "global", 1 / 32, [32, 320, 1], [9.1, 90.7, 0.3]),
        # CIFAR-100, where local crops are mixed too: 3 mixed views of 6.
        ((128, 100), 4, "all", 1 / 128, [200, 768, 3], [20.6, 79.1, 0.3]),
    ],
)
def test_weights_of_the_public_code(
    digits, problem, generator, weighed, batches, crops, mix_unlabelled, mix_weight, counts, shares
):
    settings = {"local_crops": crops, "mix_unlabelled": mix_unlabelled, "mix_weight": mix_weight, "monitors": False}
    method = build(suave, problem, **RELEASED, **settings)
    losses_of(method, pair_of(digits, *batches), generator)
    [(_, found)] = weighed
    assert found == pytest.approx(counts)
    assert [100 * count / sum(found) for count in found] == pytest.approx(shares, abs=0.05)


@pytest.mark.parametrize(
    ("batches", "crops", "mix_unlabelled", "shares"),
    [((256, 128), 8, "global", [7.7, 76.9, 15.4]), ((128, 100), 4, "all", [11.5, 44.2, 44.2])],
)
def test_weights_by_images(digits, problem, generator, weighed, batches, crops, mix_unlabelled, shares):
    method = build(suave, problem, local_crops=crops, mix_unlabelled=mix_unlabelled, monitors=False)
    losses_of(method, pair_of(digits, *batches), generator)
    [(_, found)] = weighed
    assert [100 * count / sum(found) for count in found] == pytest.approx(shares, abs=0.05)


@BOTH
@pytest.mark.parametrize(("mix_unlabelled", "views"), [("global", [(0, 1)]), ("all", [(0, 1), (2, 3)])])
def test_the_first_view_is_mixed_with_the_second_of_the_batch_reversed(
    module, problem, pair, generator, monkeypatch, mix_unlabelled, views
):
    """Public code: λ x1[i] + (1 - λ) x2[B - 1 - i], or a box of x2, with targets λ q1[i] + (1 - λ) q2[B - 1 - i]."""
    method = build(module, problem, **RELEASED, local_crops=2, mix_unlabelled=mix_unlabelled, monitors=False)
    mixes, losses, given = [], [], {}
    draw_mix, cross_entropy = _prototypes.draw_mix, _prototypes.cross_entropy
    monkeypatch.setattr(_prototypes, "draw_mix", lambda *some: mixes.append(draw_mix(*some)) or mixes[-1])
    monkeypatch.setattr(
        _prototypes, "cross_entropy", lambda *some, **named: losses.append(some) or cross_entropy(*some, **named)
    )
    features, assign = method.network.features_of, method.assign
    monkeypatch.setattr(method.network, "features_of", lambda seen: given.setdefault("views", seen) and features(seen))
    monkeypatch.setattr(method, "assign", lambda *some: given.setdefault("targets", assign(*some)))
    losses_of(method, pair, generator)
    crops, mixed = given["views"][1:5], given["views"][5:]
    first, second = given["targets"]
    assert len(mixed) == len(views) == len(losses) - 1
    for image, (_, target), mix, (one, other) in zip(mixed, losses[1:], mixes[1:], views, strict=True):
        own = float(mix.weight[0])
        for i in range(30):
            where = mix.mask[0]
            expected = where * crops[one][i] + (1 - where) * crops[other][29 - i]
            torch.testing.assert_close(image[i], expected)
            torch.testing.assert_close(target[i], own * first[i] + (1 - own) * second[29 - i])


def test_an_odd_crop_has_no_partner():
    with pytest.raises(UserError, match=r"^local_crops: 3 found, expected an even number for mix_with: next_view$"):
        suave.Settings(mix_with="next_view", mix_unlabelled="all", local_crops=3)
    assert daino.Settings(mix_with="next_view", mix_unlabelled="global", local_crops=3).local_crops == 3


@BOTH
@pytest.mark.parametrize("statistics", ["averaged", "batch"])
def test_the_teachers_batch_norms(module, problem, statistics):
    """averaged: eval mode. batch: train mode, with the statistics of both global views together."""
    momentum = {"momentum_encoder": True, "ema_decay": 0.9} if module is suave else {}
    method = build(module, problem, teacher_statistics=statistics, **momentum).train()
    teacher = method.averaged.module
    expected = copy.deepcopy(teacher).train(statistics == "batch")
    found, norm = outputs_of(teacher.head.projection), teacher.head.projection[1]
    views, before = torch.rand(2, 6, 1, 8, 8), norm.running_mean.clone()
    with torch.no_grad():
        method.assign(views, F.normalize(torch.randn(2, 6, 16), dim=2))
        projected = expected.head.projection(expected.features(views.flatten(0, 1)))
    torch.testing.assert_close(found[0], projected)
    # Running statistics of its own, which follow its own batches.
    assert torch.equal(norm.running_mean, before) is (statistics == "averaged")


@BOTH
def test_from_scratch_a_teacher_sees_with_the_batchs_statistics_alone(module, problem, digits):
    """Mean cosine of the embeddings of different images, 1 if the teacher is blind."""
    cosine = {}
    momentum = {"momentum_encoder": True, "ema_decay": 0.99} if module is suave else {}
    for statistics in ("averaged", "batch"):
        method = build(module, problem, teacher_statistics=statistics, **momentum).train()
        teacher = method.averaged.module
        with torch.no_grad():
            embedding = teacher.head.embed(teacher.features(digits[0][torch.arange(100)].float() / 255))
        cosine[statistics] = float((embedding @ embedding.T).mean())
    assert cosine["averaged"] > 0.9
    assert cosine["batch"] < 0.5


def test_a_plain_average_is_no_teacher_and_has_averaged_statistics(problem):
    method = build(suave, problem, ema_decay=0.9)
    assert not method.has_teacher
    assert not method.averaged.own_statistics


@BOTH
@pytest.mark.parametrize("keep", ["teacher", "student"])
def test_the_network_that_is_kept_and_its_monitors(module, problem, pair, generator, keep):
    method = build(module, problem, ema_decay=0.9, keep=keep, local_crops=0)
    with torch.no_grad():
        for weight in method.parameters():
            weight.add_(0.1)
    start = method.averaged_monitors and copy.deepcopy(method.averaged_monitors.module)
    decay = method.current_ema_decay()
    method.after_step()
    if keep == "student":
        assert method.selected() is method.network
        assert method.selected_monitors() is method.monitors
        return
    assert method.selected() is method.averaged.module
    kept = method.selected_monitors()
    for layer in ("backbone", "projection_1", "projection_2"):
        expected = decay * start.layers[layer].weight + (1 - decay) * method.monitors.layers[layer].weight
        torch.testing.assert_close(kept.layers[layer].weight, expected)


def test_fine_tuning_begins_with_the_starts_monitors_where_it_keeps_its_projection(problem):
    start = build(suave, problem)
    for begin, taken in (("pretrained", True), ("random", False)):
        given = replace(problem, network=copy.deepcopy(start.network), monitors=start.monitors)
        method = build(suave, given, projection_init=begin)
        same = torch.equal(method.monitors.layers["backbone"].weight, start.monitors.layers["backbone"].weight)
        assert same is taken
        assert method.monitors is not start.monitors


@BOTH
def test_mixtures_of_crops_weigh_as_their_mean_and_their_boxes_fit_them(module, problem, pair, generator, monkeypatch):
    mixes, losses = [], []
    draw_mix, cross_entropy = _prototypes.draw_mix, _prototypes.cross_entropy
    monkeypatch.setattr(_prototypes, "draw_mix", lambda *given: mixes.append(draw_mix(*given)) or mixes[-1])
    monkeypatch.setattr(
        _prototypes,
        "cross_entropy",
        lambda *given, **named: losses.append(cross_entropy(*given, **named)) or losses[-1],
    )
    method = build(module, problem, local_crops=1, mix_unlabelled="all", monitors=False)
    terms = losses_of(method, pair, generator)
    assert [mix.mask.shape[1:] for mix in mixes] == [(1, 8, 8), (1, 8, 8), (1, 8, 8), (1, 6, 6)]
    known, *mixed = (loss.item() for loss in losses)
    assert len(mixed) == 3
    expected = (40 * known + 90 * terms["swapped"].item() + 90 * sum(mixed) / 3) / 220
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)


@BOTH
def test_crops_of_one_size_go_through_one_forward(module, problem, pair, generator):
    method = build(module, problem, local_crops=3, mix_labelled=True, mix_unlabelled="global")
    shapes = []
    method.network.backbone.register_forward_pre_hook(lambda module, images: shapes.append(tuple(images[0].shape)))
    losses_of(method, pair, generator)
    assert shapes == [(40 + 4 * 30, 1, 8, 8), (3 * 30, 1, 6, 6)]


@BOTH
def test_monitors_leave_no_trace(module, problem, pair):
    method = build(module, problem, local_crops=1)

    def gradients():
        if module is daino:
            method.center.zero_()  # it has moved since
        method.zero_grad()
        losses_of(method, pair, torch.Generator().manual_seed(0))["loss"].backward()
        return {name: weight.grad.clone() for name, weight in method.network.named_parameters()}

    monitored = gradients()
    assert all(weight.grad.abs().sum() > 0 for weight in method.monitors.parameters())
    method.monitors = None
    alone = gradients()
    assert all(torch.equal(monitored[name], alone[name]) for name in alone)
    assert any(gradient.abs().sum() > 0 for gradient in alone.values())


@BOTH
@pytest.mark.parametrize("mix_labelled", [True, False])
def test_monitors_learn_the_labelled_images_that_are_not_mixed(module, problem, pair, monkeypatch, mix_labelled):
    """Public code: with the smoothing of the labels, weighted by their number among all views."""
    settings = {"local_crops": 1, "mix_labelled": mix_labelled, "mix_unlabelled": "none", "label_smoothing": 0.2}
    method = build(module, problem, **settings)
    outputs, total = [outputs_of(layer) for layer in method.monitors.layers.values()], 20 + 20 * mix_labelled + 90
    center = getattr(method, "center", torch.zeros(1)).clone()
    with_monitors = losses_of(method, pair, torch.Generator().manual_seed(0))["loss"].item()
    if module is daino:
        method.center.copy_(center)
    method.monitors = None
    without = losses_of(method, pair, torch.Generator().manual_seed(0))["loss"].item()
    expected = 0.0
    for [logits] in outputs:
        assert len(logits) == 20
        for row, label in zip(logits.double().log_softmax(dim=1), pair.labelled.label, strict=True):
            expected -= float(0.8 * row[label] + 0.2 * row.mean()) / 20
    assert with_monitors - without == pytest.approx(expected * 20 / total, rel=1e-4)


@BOTH
def test_monitors_are_reported_layer_by_layer(module, problem, digits):
    method = build(module, replace(problem, held_out=HeldOut(digits[1], torch.as_tensor(digits[3]))))
    row = method.after_epoch({})
    layers = ("held_out", "backbone", "projection_1", "projection_2")
    assert set(row) == {f"monitor/{layer}_acc" for layer in layers}
    features = infer(method.network.eval().features, digits[1])
    expected = (method.monitors.layers["backbone"](features).argmax(dim=1).numpy() == digits[3]).mean()
    assert row["monitor/backbone_acc"] == pytest.approx(expected)


@BOTH
def test_only_the_monitors_there_are_are_reported(module, problem, digits):
    assert build(module, problem).after_epoch({}) == {}
    known = replace(problem, held_out=HeldOut(digits[1], torch.as_tensor(digits[3])))
    assert set(build(module, known, monitors=False).after_epoch({})) == {"monitor/held_out_acc"}


@BOTH
def test_monitors_are_the_same_over_several_batches(module, problem, digits, monkeypatch):
    method = build(module, replace(problem, held_out=HeldOut(digits[1], torch.as_tensor(digits[3]))))
    expected = method.after_epoch({})
    monkeypatch.setattr(inference, "CPU_BATCH", 16)
    assert method.after_epoch({}) == expected


def test_interpolated_targets_are_those_of_the_other_crop():
    targets = torch.rand(2, 5, 3)
    assert torch.equal(_prototypes.other_targets(targets, 0), targets[1])
    assert torch.equal(_prototypes.other_targets(targets, 1), targets[0])
    torch.testing.assert_close(_prototypes.other_targets(targets, 2), (targets[0] + targets[1]) / 2)


@pytest.fixture(scope="module")
def trained(digits, info):
    """A network that has learned the digits from labels for a while."""
    torch.manual_seed(0)
    network = build_network(BackboneSettings(name="tiny_resnet"), info)
    settings, method = LABELLED_METHODS["semisup/supervised"](digits, network)
    train("supervised", digits, settings, method, batch=50, epochs=10, lr=3e-3, schedule=ScheduleSettings())
    return method.network.eval()


@BOTH
def test_the_head_is_as_set_with_a_prototype_for_each_class(module, problem):
    form = {"hidden": 24, "outputs": 8, "temperature": 0.3}
    assert build(module, problem, **form).network.head.settings == PrototypeSettings(prototypes=10, **form)


@BOTH
@pytest.mark.parametrize("head_init", ["random", "logistic"])
def test_prototypes_predict_as_the_start_does_mostly(module, trained, labelled, head_init):
    network = copy.deepcopy(trained)
    start = infer(network, labelled.images).argmax(dim=1)
    if head_init == "logistic":
        network.head = torch.nn.Identity()
    method = build(module, Problem(network, labelled), head_init=head_init)
    assert isinstance(method.network.head, PrototypeHead)
    prediction = infer(method.network.eval(), labelled.images).argmax(dim=1)
    assert (prediction == start).float().mean() > 0.8


def test_each_prototype_lies_at_its_images_mean_seen_from_the_mean_of_all(monkeypatch):
    monkeypatch.setattr(_prototype_start, "ROWS", 7)
    torch.manual_seed(0)
    head = PrototypeHead(6, PrototypeSettings(prototypes=4, hidden=8, outputs=5))
    before = head.prototypes.weight.detach().clone()
    features, given = torch.randn(30, 6), torch.arange(30) % 3
    _prototype_start.place_prototypes(head, features, given)
    embedding = head.eval().embed(features).detach()
    middle = sum(embedding) / 30
    for number in range(3):
        mean = sum(e for e, each in zip(embedding, given, strict=True) if each == number) / 10
        torch.testing.assert_close(
            head.prototypes.weight[number], F.normalize(mean - middle, dim=0), rtol=2e-2, atol=2e-2
        )
    assert torch.equal(head.prototypes.weight[3], before[3])
    assert [layer.momentum for layer in head.modules() if isinstance(layer, torch.nn.BatchNorm1d)] == [0.1]


def test_one_image_places_a_prototype_and_statistics_are_of_these_images_alone():
    torch.manual_seed(0)
    head = PrototypeHead(6, PrototypeSettings(prototypes=3, hidden=8, outputs=5))
    for _ in range(5):
        head.train().embed(10 + torch.randn(30, 6))  # other features, which a start may have seen
    features, given = torch.randn(30, 6), torch.tensor([0] * 29 + [1])
    _prototype_start.place_prototypes(head, features, given)
    norm = next(layer for layer in head.modules() if isinstance(layer, torch.nn.BatchNorm1d))
    torch.testing.assert_close(norm.running_mean, head.projection[0](features).mean(dim=0))
    embedding = head.eval().embed(features).detach()
    direction = F.normalize(embedding[29] - embedding.mean(dim=0), dim=0)
    torch.testing.assert_close(head.prototypes.weight[1].detach(), direction, rtol=2e-2, atol=2e-2)


@BOTH
def test_a_start_gives_its_projection_where_asked_and_never_its_prototypes(module, problem):
    settings = PrototypeSettings(prototypes=10, hidden=32, outputs=16)
    start = PrototypeHead(problem.network.backbone.dimension, settings)
    state = {name: value.clone() for name, value in start.state_dict().items()}
    for asked, taken in (("pretrained", True), ("random", False)):
        problem.network.head = start
        head = build(module, problem, projection_init=asked).network.head
        assert torch.equal(head.projection[0].weight, state["projection.0.weight"]) is taken
        assert not torch.equal(head.prototypes.weight, state["prototypes.weight"])


@pytest.mark.parametrize(
    "head",
    [
        PrototypeHead(64, PrototypeSettings(prototypes=10, hidden=32, outputs=8)),
        InstanceHead(64, InstanceSettings(classes=10, hidden=32, outputs=16)),
        torch.nn.Identity(),
    ],
    ids=["other width", "without batch norm", "none"],
)
def test_a_projection_of_another_form_cannot_be_kept(problem, head):
    problem.network.head = head
    with pytest.raises(UserError, match=r"^projection_init: pretrained is set, [^\n]*hidden 32, outputs 16[^\n]*$"):
        build(suave, problem, projection_init="pretrained")
