"""Small faults that no other test of a method but its golden curve noticed, or not even that."""

from dataclasses import replace
from math import log

import pytest
import torch
from every_method import CROP, CROPS, METHODS, SMALL_CROP, WEAK, batch_of, losses_of, outputs_of, pretext_given
from torch import nn
from torch.nn import functional as F

from sslpipe.data.held_out import HeldOut
from sslpipe.engine.method import Progress
from sslpipe.methods.cluster import scan
from sslpipe.methods.pretrain import _base, dino, feature_decoupling, moco, nce, rotnet, simclr, swav
from sslpipe.methods.pretrain._memory import MemoryBank
from sslpipe.methods.pretrain._monitors import two_views
from sslpipe.methods.self_label import confident
from sslpipe.methods.semisup import _prototypes, fixmatch, mixmatch, simmatch, suave, supervised
from sslpipe.neighbors.merging import merge
from sslpipe.nets.heads import LinearHead, LinearSettings, MergedHead
from sslpipe.nets.inference import infer
from sslpipe.objectives.nce import instance_softmax
from sslpipe.objectives.self_label import confident_cross_entropy
from sslpipe.objectives.simclr import nt_xent
from sslpipe.objectives.supervised import cross_entropy
from sslpipe.views.policies import Views, plain


def recorded(monkeypatch, module, name):
    """A list that fills with the (arguments, result) of a module's function."""
    seen, function = [], getattr(module, name)

    def call(*given, **named):
        seen.append((given, function(*given, **named)))
        return seen[-1][1]

    monkeypatch.setattr(module, name, call)
    return seen


def disturb(module):
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))


def pretext(module, digits, network, **settings):
    return module.Method(module.Settings(**settings), pretext_given(digits, network))


def test_simclr_contrasts_two_views_at_its_temperature(digits, network, generator):
    method = pretext(simclr, digits, network, temperature=0.3, views=CROP).train()
    seen = outputs_of(network)
    loss = losses_of(method, batch_of(digits), generator)["loss"].detach()
    torch.testing.assert_close(loss, nt_xent(*seen[0].chunk(2), temperature=0.3))


def test_simclr_may_have_a_pass_for_each_view(digits, network, generator):
    method = pretext(simclr, digits, network, temperature=0.3, views=CROP, batch_statistics="separate").train()
    seen = outputs_of(network)
    loss = losses_of(method, batch_of(digits), generator)["loss"].detach()
    assert [len(output) for output in seen] == [30, 30]
    torch.testing.assert_close(loss, nt_xent(*seen, temperature=0.3))


def test_losses_at_chance(digits, network):
    assert pretext(simclr, digits, network).loss_at_chance() == {"loss": log(2 * 512 - 1)}
    assert pretext(moco, digits, network, queue=40).loss_at_chance() == {"loss": log(41)}
    assert pretext(rotnet, digits, network).loss_at_chance() == {"loss": log(4)}
    assert pretext(nce, digits, network, negatives=0).loss_at_chance() == {"loss": log(300)}
    assert pretext(nce, digits, network, negatives=16).loss_at_chance() == {}


@pytest.mark.parametrize(
    ("name", "average", "own"),
    [("byol", "target", True), ("propos", "target", True), ("dino", "teacher", True), ("moco", "averaged", False)],
)
def test_batch_statistics_of_the_averaged_network(digits, network, name, average, own):
    _, method = METHODS[f"pretrain/{name}"](digits, network)
    norms = [layer for layer in getattr(method.train(), average).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    assert all(norm.training is own for norm in norms)


def test_nce_discriminates_unit_features_at_its_temperature(digits, network, generator):
    method = pretext(nce, digits, network, negatives=0, temperature=0.3)
    rows, batch = method.memory.rows.clone(), batch_of(digits)
    loss = losses_of(method, batch, generator)["loss"].detach()
    feature = method._latest[1]
    torch.testing.assert_close(feature.norm(dim=1), torch.ones(30))
    torch.testing.assert_close(loss, instance_softmax(feature, batch.index, rows, temperature=0.3))


def test_the_proximal_term_teaches_the_network(digits, network, generator):
    method = pretext(nce, digits, network, negatives=16, proximal=2.0)
    assert losses_of(method, batch_of(digits), generator)["proximal"].requires_grad


def test_the_momentum_of_a_memory_is_the_share_of_the_old_row():
    memory = MemoryBank(5, 3, momentum=0.8)
    before, feature = memory.rows.clone(), torch.eye(3)[:2]
    memory.update(torch.tensor([4, 1]), feature)
    torch.testing.assert_close(memory.rows[[4, 1]], F.normalize(0.8 * before[[4, 1]] + 0.2 * feature, dim=1))


def test_the_momentum_of_upright_is_the_share_of_the_old_one(digits, network, generator):
    method = pretext(feature_decoupling, digits, network, outputs=16, negatives=0, momentum=0.75)
    losses_of(method, batch_of(digits), generator)
    latest = method._latest[2]
    method.after_step()
    torch.testing.assert_close(method.upright[:, :30], 0.25 * latest)


def test_swav_reports_the_share_of_the_largest_prototype(digits, network, generator):
    method = pretext(swav, digits, network, prototypes=12, hidden=32, outputs=16, **CROPS, queue=0)
    seen = outputs_of(method.assignment)
    share = losses_of(method, batch_of(digits), generator)["largest_share"]
    torch.testing.assert_close(share, seen[0].flatten(0, 1).mean(dim=0).max())


def test_dinos_teacher_follows_slowly_and_its_temperature_may_be_constant(digits, network):
    method = pretext(dino, digits, network, prototypes=12, hidden=32, outputs=16, **CROPS, ema_decay=0.9)
    before = method.teacher.module.backbone.state_dict()
    name, start = next((name, value.clone()) for name, value in before.items() if name.endswith("weight"))
    with torch.no_grad():
        dict(network.backbone.named_parameters())[name].add_(1.0)
    method.progress = Progress(0, 40, 10)
    method.after_step()
    torch.testing.assert_close(method.teacher.module.backbone.state_dict()[name], start + 0.1)
    method.settings = replace(method.settings, teacher_temperature=(0.04, 0.07), teacher_temperature_epochs=0.0)
    assert method.teacher_temperature() == pytest.approx(0.07)


def test_no_collapse_is_said_at_the_beginning_of_a_run(digits, network, capsys):
    method = pretext(rotnet, digits, network)
    method.progress = Progress(1, 20, 1)
    method.after_epoch({"loss": log(4)})
    assert not capsys.readouterr().out


def test_one_prototype_for_all_images_is_a_collapse(digits, network):
    method = pretext(rotnet, digits, network)
    for prototypes, found in ((1.0, True), (2.0, False)):
        row = {"held_out/feature_std": 1.0, "held_out/prototypes": prototypes}
        assert ("prefer one prototype" in method._warning({"loss": 0.0}, row)) is found


def test_diagnostics_are_those_of_the_network_that_is_kept(digits, network, monkeypatch):
    seen = recorded(monkeypatch, _base, "feature_diagnostics")
    _, method = METHODS["pretrain/dino"](digits, network)
    method.after_epoch({"loss": 0.0})
    assert seen[0][0][0] is method.teacher.module


def test_diagnostics_draw_two_different_views(digits, network):
    first, second = two_views(network.eval(), digits[1], Views(CROP, [0.0]))
    assert not torch.allclose(first, second, atol=1e-3)


def grouped_scan(digits, network, neighbors=2, **settings):
    """Images of ten groups by cached features; the first neighbour is of the same group, the second of the next."""
    hoods = []
    for images in digits[:2]:
        number = torch.arange(len(images))
        near = torch.stack([number + 10, number + 1], dim=1) % len(images)
        hoods.append(scan.Neighborhood(images, near, torch.eye(network.backbone.dimension)[number % 10]))
    given = {"clusters": 10, "head_epochs": 5, "neighbors": neighbors}
    return scan.Method(scan.Settings(**given | settings), scan.Problem(network, *hoods))


def set_heads(method, *own_logits):
    linear = method.network.head.linear
    with torch.no_grad():
        linear.bias.zero_()
        linear.weight.zero_()
        linear.weight[:, :10] = torch.cat([logit * torch.eye(10) for logit in own_logits])


@pytest.mark.parametrize(("neighbors", "expected"), [(2, (0.067, 3.067)), (0, (0.067,))])
def test_the_held_out_loss_is_over_all_neighbours_or_the_images_themselves(digits, network, neighbors, expected):
    method = grouped_scan(digits, network, neighbors=neighbors)
    set_heads(method, 3.0)
    p = torch.cat([torch.tensor([3.0]), torch.zeros(9)]).softmax(dim=0).double()
    same, next_group = (-log(float(p @ p.roll(shift))) for shift in (0, 1))
    mean = (same + next_group) / 2 if neighbors else same
    assert method.after_epoch({})["held_out/loss"] == pytest.approx(mean - 2 * log(10), rel=1e-4)


def test_the_clusters_are_counted_for_the_selected_head(digits, network):
    method = grouped_scan(digits, network, heads=2)
    set_heads(method, 0.0, 3.0)
    assert method.after_epoch({})["held_out/clusters"] == 10


def test_a_run_of_the_heads_alone_has_a_candidate_in_every_epoch(digits, network):
    method = grouped_scan(digits, network, fit=replace(scan.Settings(clusters=10).fit, epochs=5))
    method.after_epoch({})
    assert method.best_loss.isfinite()


def test_clusters_are_merged_by_the_links_of_their_own_images(digits, network):
    method = grouped_scan(digits, network, merge_to=4, head_epochs=0)
    features = infer(network.eval().features, digits[0])
    linear = network.head.linear
    with torch.no_grad():
        linear.weight.copy_(10 * torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(0)))
        linear.bias.copy_(-linear.weight @ features.mean(dim=0))
        share = linear(features).softmax(dim=1)
    method.after_epoch({})
    prediction = share.argmax(dim=1).numpy()
    groups = torch.from_numpy(merge(prediction, method.train_set.neighbors.numpy(), clusters=4))
    expected = torch.zeros(300, 4).index_add_(1, groups, share[:, : len(groups)])
    selected = method.selected()
    assert isinstance(selected.head, MergedHead)
    torch.testing.assert_close(infer(selected.eval(), digits[0]).softmax(dim=1), expected, rtol=1e-3, atol=1e-3)


def test_as_many_groups_as_clusters_may_be_asked_for(digits, network):
    assert grouped_scan(digits, network, merge_to=10).settings.merge_to == 10


def self_labelling(digits, network, **settings):
    network.head = LinearHead(network.backbone.dimension, LinearSettings(outputs=10))
    return confident.Method(confident.Settings(**settings), confident.Problem(network, digits[0]))


def test_an_increase_starts_the_patience_anew(digits, network):
    method = self_labelling(digits, network, patience=2, min_delta=0.01)
    for share, finished in ((0.5, False), (0.5, False), (0.7, False), (0.7, False), (0.7, True)):
        method.after_epoch({"confident": share})
        assert method.finished is finished


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_pseudo_labels_are_the_averaged_networks_on_plain_images(digits, network, generator, balance, statistics):
    chosen = {"targets": "averaged", "threshold": 0.12, "balance": balance, "target_statistics": statistics}
    method = self_labelling(digits, network, **chosen)
    disturb(method.averaged.module)
    seen, batch = outputs_of(network), batch_of(digits, 40)
    terms = losses_of(method.train(), batch, generator)
    targets = method.averaged.module.train(statistics == "batch")(plain(batch.image)).detach()
    expected = confident_cross_entropy(targets, seen[-1], threshold=0.12, balance=balance)
    torch.testing.assert_close(terms["loss"].detach(), expected["loss"], rtol=1e-4, atol=1e-5)
    assert terms["confident"].item() == pytest.approx(expected["confident"].item() / 40)
    assert 0 < terms["confident"] <= 1


def test_labels_are_smoothed(problem, pair, generator):
    method = supervised.Method(supervised.Settings(label_smoothing=0.3), problem)
    seen = outputs_of(method.network)
    loss = losses_of(method, pair, generator)["loss"].detach()
    torch.testing.assert_close(loss, cross_entropy(seen[0], pair.labelled.label, smoothing=0.3))


def test_the_held_out_accuracy_is_that_of_the_averaged_weights(problem, digits):
    held_out = HeldOut(digits[1], torch.as_tensor(digits[3]))
    method = supervised.Method(supervised.Settings(head_init="logistic"), replace(problem, held_out=held_out))
    before = method.after_epoch({})
    with torch.no_grad():
        method.network.head.weight.neg_()
    assert method.after_epoch({}) == before


def suave_method(problem, **settings):
    given = {"views": WEAK, "hidden": 32, "outputs": 16, "global_views": CROP, "local_views": SMALL_CROP, "queue": 0}
    return suave.Method(suave.Settings(**given | settings), problem)


def test_labels_and_targets_are_mixed_as_their_images_are(problem, pair, generator, monkeypatch):
    mixes = recorded(monkeypatch, _prototypes, "draw_mix")
    losses = recorded(monkeypatch, _prototypes, "cross_entropy")
    method = suave_method(problem, local_crops=1, mix_unlabelled="all")
    assigned, watched = recorded(monkeypatch, method, "assign"), recorded(monkeypatch, _prototypes, "monitor_loss")
    losses_of(method, pair, generator)
    mixes, targets = [mix for _, mix in mixes], assigned[0][1]
    truth = F.one_hot(pair.labelled.label, 10).float()
    known = torch.cat([truth, mixes[0].targets(truth)])
    assert not torch.equal(known[20:], truth)
    torch.testing.assert_close(losses[0][0][1], known)
    others = [targets[1], targets[0], (targets[0] + targets[1]) / 2]
    for (given, _), mix, other in zip(losses[1:], mixes[1:], others, strict=True):
        torch.testing.assert_close(given[1], mix.targets(other))
    _, outputs, seen_truth = watched[0][0]
    assert torch.equal(seen_truth, truth)
    # The embedding of the labelled views that are not mixed, whose scores are the logits of the labelled term.
    logits = method.network.head.scores(F.normalize(outputs[-1], dim=1)) / method.settings.temperature
    torch.testing.assert_close(logits, losses[0][0][0][:20], rtol=1e-4, atol=1e-4)


def test_the_alignment_averages_over_its_steps(problem):
    method = fixmatch.Method(fixmatch.Settings(alignment=True, alignment_steps=7), problem)
    assert method.align.window.shape == (7, 10)


def test_simmatchs_alignment_averages_over_its_steps(problem):
    assert simmatch.Method(simmatch.Settings(alignment_steps=7), problem).align.window.shape == (7, 10)


def test_mixmatch_mixes_each_guess_with_its_own_view(problem, pair, generator, monkeypatch):
    method = mixmatch.Method(mixmatch.Settings(copies=2), problem)
    mixes, terms = recorded(monkeypatch, mixmatch, "draw_mix"), recorded(monkeypatch, mixmatch, "mixmatch")
    guesses = recorded(monkeypatch, method, "_guess")
    losses_of(method, pair, generator)
    truth = F.one_hot(pair.labelled.label, 10).float()
    _, target, _, unlabelled_target = terms[0][0]
    expected = mixes[0][1].targets(torch.cat([truth, guesses[0][1]]))
    torch.testing.assert_close(torch.cat([target, unlabelled_target]), expected)
