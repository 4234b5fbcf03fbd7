import copy
from dataclasses import replace
from itertools import permutations
from math import cos, log, pi

import pytest
import torch
from every_method import losses_of, tiny_problem
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sslpipe.data.batches import Batch, Batches, LabelledBatches, Pair, PairedBatches
from sslpipe.engine.method import Multipliers, Progress
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings, Trainer
from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse
from sslpipe.methods.semisup import daino, fixmatch, mixmatch, suave, uda
from sslpipe.methods.semisup._base import Problem
from sslpipe.methods.semisup._phases import Phases
from sslpipe.methods.semisup.alternation import NONE, Method, Settings, balanced_targets, exchange
from sslpipe.nets.averaged import warm_decay
from sslpipe.nets.network import BackboneSettings, build_network
from sslpipe.views.policies import ViewSettings, plain

STEPS_PER_EPOCH = 4
SHORT = {"R": "rotation", "S": "semisupervised", "C": "clustering"}


@pytest.fixture
def build(problem):
    def build_method(**settings):
        return Method(Settings(**settings), problem)

    return build_method


def at_epoch(method, epoch):
    method.progress = Progress(int(epoch * STEPS_PER_EPOCH), 1000, STEPS_PER_EPOCH)
    return method


def clustering_epoch(build, **given):
    return at_epoch(build(warmup_epochs=0, ssl_epochs=1, rotation_epochs=0, **given), 1)


def clustering_step(method, image, index, *, seed):
    pair = Pair(labelled=None, unlabelled=Batch(image=image, index=index))
    return losses_of(method, pair, torch.Generator().manual_seed(seed))


def counts(targets):
    return torch.bincount(targets[targets != NONE], minlength=10).tolist()


@pytest.mark.parametrize(
    ("warmup", "ssl", "rotation", "cluster", "expected"),
    [
        (2, 3, 1, 1, "RRSSSRCSSSRCS"),
        (0, 2, 0, 1, "SSCSSC"),
        (1, 1, 2, 2, "RSRRCCSRRCC"),
        (1, 2, 0, 0, "RSSSS"),
    ],
)
def test_phases_follow_in_order(build, warmup, ssl, rotation, cluster, expected):
    method = build(warmup_epochs=warmup, ssl_epochs=ssl, rotation_epochs=rotation, cluster_epochs=cluster)
    for epoch, phase in enumerate(expected):
        for within in (0.0, 0.75):
            assert at_epoch(method, epoch + within).phase() == SHORT[phase]


@pytest.mark.parametrize(
    ("epoch", "terms"),
    [
        (0, {"loss", "rotation", "rotation_acc"}),
        (1, {"loss", "labelled", "unlabelled", "confident"}),
        (2, {"loss", "rotation", "rotation_acc"}),
        (3, {"loss", "clustering", "kept", "moved"}),
    ],
)
def test_each_phase_has_its_terms_and_its_weights(build, pair, generator, epoch, terms):
    method = at_epoch(build(warmup_epochs=1, ssl_epochs=1, rotation_epochs=1), epoch)
    found = losses_of(method, pair, generator)
    assert set(found) == terms
    found["loss"].backward()
    head, rotation = method.network.head.weight.grad, method.rotation[-1].weight.grad
    assert (rotation is not None) == ("rotation" in terms)
    assert (head is not None) == ("rotation" not in terms)
    assert method.network.backbone.stem[0].weight.grad.abs().sum() > 0
    assert method.network.training


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_labels_count_in_the_semi_supervised_phase_alone(build, pair, epoch):
    method = at_epoch(build(warmup_epochs=1, ssl_epochs=1), epoch)
    others = replace(pair, labelled=replace(pair.labelled, label=pair.labelled.label.flip(0)))
    first, second = (
        losses_of(copy.deepcopy(method), each, torch.Generator().manual_seed(0))["loss"] for each in (pair, others)
    )
    assert torch.equal(first, second) is (epoch != 1)


def test_rotation_and_clustering_have_multipliers_of_their_own(build):
    optimizer = OptimizerSettings(name="sgd", lr=0.05, weight_decay=2e-3)
    fit = FitSettings(epochs=4, batch=30, optimizer=optimizer)
    method = build(warmup_epochs=1, ssl_epochs=1, lr=0.01, weight_decay=1e-3, fit=fit)
    for epoch, expected in enumerate(
        (Multipliers(0.2, 0.5), Multipliers(1.0, 1.0), Multipliers(0.2, 0.5), Multipliers(0.2, 0.5))
    ):
        multipliers = at_epoch(method, epoch).multipliers()
        assert (multipliers.lr, multipliers.weight_decay) == pytest.approx((expected.lr, expected.weight_decay))


def test_a_run_that_ends_before_its_first_clustering_is_reported_and_one_before_its_first_label_refused(build, capsys):
    def of_length(warmup, **length):
        fit = FitSettings(batch=30, optimizer=OptimizerSettings(name="sgd", lr=0.05, weight_decay=2e-3), **length)
        build(warmup_epochs=warmup, ssl_epochs=3, rotation_epochs=1, fit=fit)
        return capsys.readouterr().out

    base = "so the model is that of semisup.fixmatch"
    assert base in of_length(0, epochs=3)
    assert base in of_length(0, steps=30)
    for warmup, epochs in ((0, 4), (1, 3)):
        line = of_length(warmup, epochs=epochs)
        assert f"{epochs} epochs end before the first clustering, after {warmup + 4}; raise" in line
    assert not of_length(0, epochs=5)
    with pytest.raises(UserError, match="2 found, expected more than warmup_epochs, 2"):
        of_length(2, epochs=2)


def test_the_semi_supervised_phase_has_the_multipliers_of_its_method(build):
    settings = {"hidden": 32, "outputs": 16, "final_weight_decay": 5.0}
    # 250 epochs: rotation, 240 semi-supervised, rotation, clustering, 7 semi-supervised; half of 247 are 123.5.
    method = at_epoch(build(base="daino", warmup_epochs=1, ssl_epochs=240, ssl=settings), 124.5)
    assert method.phase() == "semisupervised"
    assert method.multipliers().weight_decay == pytest.approx(3.0)  # half of the way from 1 to 5


def test_without_any_weight_decay_there_is_nothing_to_multiply(build):
    optimizer = OptimizerSettings(name="sgd", lr=0.05, weight_decay=0.0)
    fit = FitSettings(epochs=4, batch=30, optimizer=optimizer)
    method = build(warmup_epochs=1, lr=0.01, weight_decay=0.0, fit=fit)
    assert at_epoch(method, 0).multipliers() == Multipliers(pytest.approx(0.2), 1.0)


def test_an_image_is_turned_by_each_quarter(build, pair, generator):
    views = ViewSettings(policy="plain")
    method = at_epoch(build(warmup_epochs=1, rotation_views=views), 0)
    seen = []
    method.network.backbone.register_forward_pre_hook(lambda module, images: seen.append(images[0].clone()))
    terms = losses_of(method, pair, generator)
    network = method.network
    rotated = [plain(image).rot90(quarter, (1, 2)) for quarter in range(4) for image in pair.unlabelled.image]
    torch.testing.assert_close(seen[0], (torch.stack(rotated) - network.mean) / network.std)
    logits = method.rotation(network.features(torch.stack(rotated))).detach()
    loss = -sum(row.log_softmax(0)[place // 30] for place, row in enumerate(logits)) / 120
    assert terms["rotation"].item() == pytest.approx(loss.item(), rel=1e-4)
    right = sum(int(row.argmax()) == place // 30 for place, row in enumerate(logits))
    assert 0 < right < 120
    assert terms["rotation_acc"].item() == pytest.approx(right / 120)
    with torch.no_grad():
        method.rotation[-1].weight.zero_()
        method.rotation[-1].bias.zero_()
    assert losses_of(method, pair, generator)["rotation"].item() == pytest.approx(log(4))


@given(st.integers(1, 400), st.integers(2, 12), st.sampled_from([0.0, 0.3, 0.6, 0.8, 1.0]))
def test_targets_are_balanced_and_leave_their_share_without(images, clusters, share):
    targets = balanced_targets(images, clusters, share)
    each = int(share * images / clusters)
    assert torch.bincount(targets[targets != NONE], minlength=clusters).tolist() == [each] * clusters
    assert (targets == NONE).sum() == images - each * clusters
    assert targets.unique().tolist() == [*([NONE] if each * clusters < images else []), *range(clusters if each else 0)]


def test_a_share_of_six_tenths_leaves_four_tenths_without(build):
    targets = build(share=0.6).targets
    assert counts(targets) == [18] * 10
    assert (targets == NONE).sum() == 120


@settings(max_examples=15, deadline=None)
@given(data=st.data(), share=st.sampled_from([0.6, 1.0]))
def test_targets_stay_balanced_for_ever_and_move_within_the_batch_alone(data, share, digits, info, labelled):
    network = build_network(BackboneSettings(name="tiny_resnet"), info)
    given_settings = Settings(warmup_epochs=0, ssl_epochs=1, rotation_epochs=0, share=share, copies=1)
    method = at_epoch(Method(given_settings, Problem(network, labelled)), 1)
    balanced = counts(method.targets)
    for _ in range(3):
        index = torch.tensor(data.draw(st.lists(st.integers(0, 299), min_size=2, max_size=20, unique=True)))
        before = method.targets.clone()
        clustering_step(method, digits[0][index], index, seed=0)
        assert counts(method.targets) == balanced
        assert sorted(method.targets[index].tolist()) == sorted(before[index].tolist())
        others = torch.ones(300, dtype=torch.bool)
        others[index] = False
        assert torch.equal(method.targets[others], before[others])


def test_the_batchs_targets_go_where_they_are_nearest(build, digits):
    method = clustering_epoch(build, share=0.6, copies=2, radius=0.5)
    index = torch.tensor([250, 3, 77, 140, 9])
    method.targets[index] = torch.tensor([NONE, 4, 7, NONE, 4])
    outputs = F.normalize(method.network.eval()(plain(digits[0][index])), dim=1).double().detach()
    method.network.train()
    terms = clustering_step(method, digits[0][index], index, seed=0)

    def distance(images):
        pairs = zip(images, (4, 4, 7), strict=True)
        return sum((outputs[image] - F.one_hot(torch.tensor(target), 10)).square().sum() for image, target in pairs)

    best = min(permutations(range(5), 3), key=distance)
    expected = torch.full((5,), NONE)
    expected[list(best)] = torch.tensor([4, 4, 7])
    assert torch.equal(method.targets[index], expected)
    moved = sum(new != old for new, old in zip(expected.tolist(), (NONE, 4, 7, NONE, 4), strict=True))
    assert moved > 0
    assert terms["moved"].item() == pytest.approx(moved / 5)


def test_copies_learn_their_images_target_and_the_near_ones_without_theirs(build, digits):
    method = clustering_epoch(build, share=0.6, copies=2, radius=0.9, views=ViewSettings(policy="weak"))
    index = torch.arange(100, 112)
    image = digits[0][index]
    anchors = F.normalize(method.network.eval()(plain(image)), dim=1).double().detach()
    method.network.train()
    terms = losses_of(
        method, Pair(labelled=None, unlabelled=Batch(image=image, index=index)), torch.Generator().manual_seed(1)
    )
    views = method.views(image.repeat(2, 1, 1, 1), torch.Generator().manual_seed(1))
    outputs = F.normalize(method.network(views), dim=1).double().detach()
    distances = []
    for place, target in enumerate(method.targets[index].tolist()):
        if target == NONE:
            target = int(anchors[place].argmax())
            if (anchors[place] - F.one_hot(torch.tensor(target), 10)).square().sum() >= 0.9:
                continue
        unit = F.one_hot(torch.tensor(target), 10)
        distances.append(sum((outputs[place + 12 * copy] - unit).square().sum() for copy in range(2)) / 2)
    assert terms["kept"].item() == pytest.approx(len(distances) / 12)
    assert terms["clustering"].item() == pytest.approx(float(sum(distances) / len(distances)), rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), size=st.integers(1, 12), distance=st.sampled_from(["squared", "euclidean"]))
def test_targets_are_exchanged_within_groups_of_the_batch(seed, size, distance):
    generator = torch.Generator().manual_seed(seed)
    outputs = F.normalize(torch.randn(10, 4, generator=generator), dim=1)
    before = torch.randint(-1, 4, (10,), generator=generator)
    after = exchange(outputs, before, size=size, distance=distance)
    for start in range(0, 10, size):
        group = slice(start, start + size)
        assert sorted(after[group].tolist()) == sorted(before[group].tolist())
        assert torch.equal(after[group], exchange(outputs[group], before[group], size=size, distance=distance))


def test_a_clustering_step_exchanges_targets_within_its_groups(build, digits):
    method = clustering_epoch(build, cluster_batch=8)
    index = torch.arange(40, 60)
    before = method.targets[index].clone()
    clustering_step(method, digits[0][index], index, seed=0)
    after = method.targets[index]
    assert not torch.equal(after, before)
    assert [sorted(group.tolist()) for group in after.split(8)] == [sorted(group.tolist()) for group in before.split(8)]


def test_the_public_codes_form_of_a_clustering_step(build, digits):
    """ρ bounds the distance, and the loss is the mean over all elements of the copies of kept images."""
    chosen = {"distance": "euclidean", "reduction": "mean", "views": ViewSettings(policy="weak")}
    method = clustering_epoch(build, share=0.6, copies=2, radius=0.85, **chosen)
    index = torch.arange(100, 130)
    image = digits[0][index]
    anchors = F.normalize(method.network.eval()(plain(image)), dim=1).double().detach()
    method.network.train()
    terms = losses_of(
        method, Pair(labelled=None, unlabelled=Batch(image=image, index=index)), torch.Generator().manual_seed(1)
    )
    views = method.views(image.repeat(2, 1, 1, 1), torch.Generator().manual_seed(1))
    outputs = F.normalize(method.network(views), dim=1).detach()
    kept, targets = [], []
    for place, target in enumerate(method.targets[index].tolist()):
        nearest = F.one_hot(anchors[place].argmax(), 10)
        if target == NONE and torch.linalg.vector_norm(anchors[place] - nearest) >= 0.85:
            continue
        kept.append(place)
        targets.append(nearest.float() if target == NONE else F.one_hot(torch.tensor(target), 10).float())
    loss = F.mse_loss(outputs.view(2, 30, 10)[:, kept], torch.stack(targets).expand(2, -1, -1))
    assert terms["kept"].item() == pytest.approx(len(kept) / 30)
    torch.testing.assert_close(terms["loss"], loss)


def test_targets_are_state(build):
    method = build(share=0.6)
    assert torch.equal(method.state_dict()["targets"], method.targets)


@pytest.mark.parametrize("average_in", ["all", "semisupervised"])
def test_the_average_follows_through_all_phases_or_the_semi_supervised_ones_alone(build, average_in):
    method = build(warmup_epochs=1, ssl_epochs=1, average_in=average_in, ssl={"ema_decay": 0.5})
    own = 0
    for step in range(7 * STEPS_PER_EPOCH):
        phase = "RSRCSRC"[step // STEPS_PER_EPOCH]
        before = method.selected().head.bias.clone()
        with torch.no_grad():
            method.network.head.bias += 1
        own += phase == "S"
        # As the loop does after the optimiser's step.
        method.progress = Progress(step + 1, 7 * STEPS_PER_EPOCH, STEPS_PER_EPOCH)
        method.after_step()
        decay = warm_decay(own, decay=0.5) if phase == "S" or average_in == "all" else 1.0
        expected = decay * before + (1 - decay) * method.network.head.bias
        torch.testing.assert_close(method.selected().head.bias, expected)


def test_clustering_leaves_the_model_of_the_last_semi_supervised_epoch_as_it_is(digits, network):
    trainer = trainer_of(digits, network, average_in="semisupervised", ssl={"ema_decay": 0.9})
    for step in range(6):  # an epoch each of rotation and of labels
        trainer.step(step)
    kept = copy.deepcopy(trainer.method.selected().state_dict())
    weights = copy.deepcopy(trainer.method.network.state_dict())
    for step in range(6, 12):  # an epoch each of rotation and of clustering
        trainer.step(step)
    torch.testing.assert_close(dict(trainer.method.selected().state_dict()), dict(kept), rtol=0, atol=0)
    assert not torch.equal(trainer.method.network.head.weight, weights["head.weight"])


def test_the_rotation_head_is_not_kept(build):
    method = build()
    state = method.selected().state_dict()
    assert not any("rotation" in name for name in state)
    kept = {id(weight) for weight in method.selected().parameters()}
    assert not any(id(weight) in kept for weight in method.rotation.parameters())
    assert any(name.startswith("rotation.") for name in method.state_dict())


@pytest.mark.parametrize(("base", "module"), [("fixmatch", fixmatch), ("mixmatch", mixmatch), ("uda", uda)])
def test_the_base_is_found_by_name_and_takes_its_settings(build, pair, generator, base, module):
    method = build(base=base, warmup_epochs=0, ssl_epochs=1, ssl={"unlabelled_weight": 0.25})
    assert type(method.base) is module.Method
    assert method.base.settings == module.Settings(unlabelled_weight=0.25)
    assert losses_of(at_epoch(method, 0.5), pair, generator)["labelled"] > 0


def test_an_unknown_base_is_a_users_mistake(build):
    with pytest.raises(UserError, match=r"^semisup\.alternation\.base: unknown name 'fixmtach'[^\n]*fixmatch"):
        build(base="fixmtach")


@pytest.mark.parametrize("base", ["propagation", "voting_probes", "alternation"])
def test_a_base_that_takes_no_steps_is_a_users_mistake(build, base):
    with pytest.raises(UserError, match=rf"^semisup\.alternation\.base: {base} found, expected a method that trains"):
        build(base=base)


def test_an_unknown_key_of_the_base_is_named_where_it_stands(build):
    with pytest.raises(UserError, match=r"^semisup\.alternation\.ssl\.treshold: unknown key[^\n]*threshold[^\n]*$"):
        build(ssl={"treshold": 0.9})


@pytest.mark.parametrize("key", ["labelled_batch", "fit"])
def test_what_is_set_for_all_epochs_is_no_setting_of_the_base(key):
    with pytest.raises(UserError, match=rf"^ssl\.{key}:"):
        Settings(ssl={key: 1})


def test_a_weight_decay_needs_one_that_it_is_a_multiple_of():
    without = FitSettings(batch=30, optimizer=OptimizerSettings(name="sgd", lr=0.05, weight_decay=0.0))
    with pytest.raises(UserError, match=r"^weight_decay:"):
        Settings(weight_decay=1e-4, fit=without)


# Schedules


def trainer_of(digits, network, *, lr=0.1, schedule="cosine_7_16", epochs=9, **given):
    """A trainer of an alternation over 60 images, three steps an epoch."""
    images = digits[0].subset(torch.arange(60))
    optimizer = OptimizerSettings(name="sgd", lr=lr, weight_decay=1e-3)
    fit = FitSettings(epochs=epochs, batch=20, optimizer=optimizer, schedule=ScheduleSettings(name=schedule))
    chosen = Settings(**{"warmup_epochs": 1, "ssl_epochs": 1, "labelled_batch": 20, "lr": 0.01, **given}, fit=fit)
    problem = tiny_problem((images, digits[1], digits[2][:60], digits[3]), network)
    stream = PairedBatches(Batches(images, 20, seed=0), LabelledBatches(problem.labelled, 20, seed=0))
    return Trainer(Method(chosen, problem).train(), stream, fit, seed=0)


@settings(max_examples=40, deadline=None)
@given(
    warmup=st.integers(0, 3),
    ssl=st.integers(1, 3),
    rotation=st.integers(0, 2),
    cluster=st.integers(0, 2),
    length=st.integers(1, 4),
    total=st.integers(1, 60),
)
def test_a_base_counts_the_steps_of_its_own_epochs(warmup, ssl, rotation, cluster, length, total):
    phases, own, clusterings = Phases(warmup, ssl, rotation, cluster), 0, 0
    iteration = "S" * ssl + "R" * rotation + "C" * cluster
    order = [letter for letter in "R" * warmup + iteration * 60 for _ in range(length)][: total + 1]
    all_own = sum(letter == "S" for letter in order[:total])
    for step, letter in enumerate(order):
        progress = Progress(step, total, length)
        assert phases.at(progress) == SHORT[letter]
        assert phases.among_semisupervised(progress) == Progress(own, max(all_own, 1), length)
        assert phases.clusterings(progress) == clusterings // length
        own += letter == "S"
        clusterings += letter == "C"


def test_the_ramp_of_mixmatch_begins_with_its_first_step(build, pair, generator):
    # A hundred epochs of rotation, of four steps each, and then 125 iterations with one epoch of MixMatch.
    given = {"base": "mixmatch", "warmup_epochs": 100, "ssl_epochs": 1}
    method = build(**given, ssl={"ramp_steps": 40, "unlabelled_weight": 60.0})
    for epoch, share in ((100, 0.0), (103, 0.1), (100 + 3 * 9, 0.9), (100 + 3 * 10, 1.0), (100 + 3 * 50, 1.0)):
        method.progress = Progress(epoch * STEPS_PER_EPOCH, 475 * STEPS_PER_EPOCH, STEPS_PER_EPOCH)
        terms = losses_of(method, pair, generator)
        torch.testing.assert_close(terms["loss"], terms["labelled"] + share * 60 * terms["unlabelled"])
        half = build(**given, ssl={"ramp": 0.08, "unlabelled_weight": 60.0})  # of 500 steps of its own
        half.progress = method.progress
        terms = losses_of(half, pair, generator)
        torch.testing.assert_close(terms["loss"], terms["labelled"] + share * 60 * terms["unlabelled"])


def test_udas_labels_are_released_by_its_own_steps(build, pair, monkeypatch):
    method, seen = build(base="uda", warmup_epochs=10, ssl_epochs=2, ssl={"annealing": "linear"}), []
    monkeypatch.setattr(uda, "annealed_cross_entropy", recorded(uda.annealed_cross_entropy, seen))
    for epoch in (10, 11, 14, 15, 19):
        method.progress = Progress(epoch * STEPS_PER_EPOCH, 20 * STEPS_PER_EPOCH, STEPS_PER_EPOCH)
        losses_of(method, pair, torch.Generator().manual_seed(0))
    # Ten epochs after the rotation: SSRC SSRC SS, six of them UDA's.
    assert seen == pytest.approx([0.1 + 0.9 * done / 6 for done in (0, 1, 2, 3, 5)])


def recorded(function, thresholds):
    """annealed_cross_entropy, its thresholds kept in a list."""
    return lambda *given, threshold, **rest: (
        thresholds.append(threshold) or function(*given, threshold=threshold, **rest)
    )


@pytest.mark.parametrize("base", [suave, daino])
def test_queue_and_teacher_know_none_of_the_steps_before(build, base):
    sizes = {"hidden": 32, "outputs": 16}
    method = build(base=base.__name__.rpartition(".")[2], warmup_epochs=3, ssl_epochs=1, ssl=sizes)
    seen = [at_epoch(method, epoch).base.progress for epoch in (0, 3, 4, 6)]
    assert [(progress.step, progress.epochs) for progress in seen] == [(0, 0), (0, 0), (4, 1), (4, 1)]


@pytest.mark.parametrize("base", ["fixmatch", "mixmatch", "uda", "daino"])
def test_without_other_epochs_it_is_its_base_to_the_last_bit(digits, info, base):
    module = {"fixmatch": fixmatch, "mixmatch": mixmatch, "uda": uda, "daino": daino}[base]
    given = {"views": {"policy": "weak"}, "ema_decay": 0.9}
    given |= {"strong": {"flip": 0.0}, "threshold": 0.2} if base in ("fixmatch", "uda") else {}
    given |= {"hidden": 32, "outputs": 16, "local_crops": 0} if base == "daino" else {}
    optimizer = OptimizerSettings(name="sgd", lr=0.05, weight_decay=1e-3)
    fit = FitSettings(epochs=4, batch=75, optimizer=optimizer, schedule=ScheduleSettings(name="cosine_7_16"))
    alone = replace(parse(module.Settings, given, where="ssl"), labelled_batch=20, fit=fit)
    without = {"warmup_epochs": 0, "rotation_epochs": 0, "cluster_epochs": 0}
    shared = {"average_in": "semisupervised", "schedule_over": "semisupervised"}
    within = Settings(base=base, ssl=given, labelled_batch=20, fit=fit, **without, **shared)
    losses, states = [], []
    for chosen, built in ((alone, module.Method), (within, Method)):
        torch.manual_seed(0)
        problem = tiny_problem(digits, build_network(BackboneSettings(name="tiny_resnet"), info))
        method = built(chosen, problem).train()
        stream = PairedBatches(Batches(digits[0], 75, seed=0), LabelledBatches(problem.labelled, 20, seed=0))
        trainer = Trainer(method, stream, fit, seed=0)
        losses.append([trainer.step(step)["loss"].item() for step in range(16)])
        states.append(dict(method.selected().state_dict()))
    assert losses[0] == losses[1]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_the_learning_rate_by_the_public_codes_rule(digits, network):
    """Over the semi-supervised epochs alone; that of the others is halved after so many clustering epochs."""
    trainer = trainer_of(digits, network, epochs=11, schedule_over="semisupervised", lr_milestones=(1, 3))
    done = clustered = 0
    for step, letter in enumerate(letter for letter in "RSRCSRCSRCS" for _ in range(3)):
        trainer._begin_step(step)
        halvings = sum(clustered // 3 >= milestone for milestone in (1, 3))
        assert trainer.lr == pytest.approx(
            0.1 * cos(7 * pi * done / (16 * 12)) if letter == "S" else 0.01 * 0.5**halvings
        )
        assert {group["lr"] for group in trainer.optimizer.param_groups} == {trainer.lr}
        done += letter == "S"
        clustered += letter == "C"
    assert (done, clustered) == (12, 9)


def test_the_learning_rate_over_all_epochs(digits, network):
    trainer = trainer_of(digits, network, epochs=9)
    for step, letter in enumerate(letter for letter in "RSRCSRCSR" for _ in range(3)):
        trainer._begin_step(step)
        assert trainer.lr == pytest.approx((0.1 if letter == "S" else 0.01) * cos(7 * pi * step / (16 * 27)))
