"""semisup.voting_probes: the vote and self-training against plain loops, its head, and that it learns digits."""

from dataclasses import replace
from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch.nn import functional as F

from sslpipe.data.held_out import HeldOut
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.io.errors import UserError
from sslpipe.methods.semisup import _voting
from sslpipe.methods.semisup._base import Problem
from sslpipe.methods.semisup._feature_probe import fit_probe
from sslpipe.methods.semisup._voting import fit_voters, spaces_of, votes
from sslpipe.methods.semisup.voting_probes import Method, Settings
from sslpipe.nets.inference import head_logits
from sslpipe.nets.timm_equivalent import linear_classifier

CPU = torch.device("cpu")
CLASSES = tuple("0123456789")
PARTS = (40, 24)


def digits_problem(network, each, parts=None, seed=0, count=1797):
    """`each` labels of every class of digits, whose pixels stand for the features of a network, or of joined ones."""
    pixels, label = load_digits(return_X_y=True)
    features = torch.from_numpy(pixels[:count] / 16).half()
    if parts:
        features = torch.cat([F.normalize(part.float(), dim=1) for part in features.split(parts, dim=1)], dim=1).half()
        network.backbone = type("Backbone", (torch.nn.Identity,), {"parts": parts, "dimension": 64})()
    rng, label = np.random.default_rng(seed), label[:count]
    index = np.sort(np.concatenate([rng.choice(np.flatnonzero(label == c), each, replace=False) for c in range(10)]))
    images = Images(np.zeros((count, 1, 8, 8), np.uint8), CPU)
    labelled = LabelledImages(images, torch.from_numpy(index), torch.from_numpy(label[index]), CLASSES)
    held_out = HeldOut(Images(images.array[-200:], CPU), torch.from_numpy(label[-200:]))
    array = features.numpy()
    return Problem(network, labelled, held_out, None, array, array[-200:]), label


def accuracy(method, label):
    """The accuracy on the images without a label."""
    rest = np.setdiff1d(np.arange(len(label)), method.problem.labelled.index.numpy())
    return float((method.training_logits().argmax(dim=1).numpy() == label)[rest].mean())


@pytest.mark.parametrize("each", [1, 4])
def test_self_training_is_better_than_a_single_probe(network, each):
    single, found = Settings(strengths=(10.0,), self_training=False), Settings()
    reached = {single: [], found: []}
    for seed in range(4):
        problem, label = digits_problem(network, each, seed=seed)
        for chosen, accuracies in reached.items():
            accuracies.append(accuracy(Method(chosen, problem), label))
    assert np.mean(reached[found]) > np.mean(reached[single]) + 0.01
    assert np.mean(reached[found]) > {1: 0.6, 4: 0.84}[each]


def softmax(logits):
    powers = [exp(value - max(logits)) for value in logits]
    return [power / sum(powers) for power in powers]


def loop_components(space, row):
    """The components of one image's features in a space, from its mean and its basis."""
    own = [float(value) for value in row[space.dimensions]]
    norm = sum(value**2 for value in own) ** 0.5
    centred = [value / norm - float(mean) for value, mean in zip(own, space.pca.mean, strict=True)]
    return [
        sum(value * float(column) for value, column in zip(centred, direction, strict=True))
        for direction in space.pca.basis.T
    ]


@pytest.mark.parametrize("how", ["mean_probability", "mean_label"])
def test_the_vote_and_what_the_students_learn_are_those_of_plain_loops(network, monkeypatch, how):
    problem, label = digits_problem(network, 2, PARTS, count=150)
    calls = []

    def recorded(unit, known, strength, iterations):
        calls.append((unit, known.tolist(), strength))
        return fit_probe(unit, known, strength, iterations)

    monkeypatch.setattr(_voting, "fit_probe", recorded)
    monkeypatch.setattr(_voting, "ROWS", 40)  # the last chunk is shorter
    chosen = Settings(strengths=(3.0, 30.0), vote=how, components=12, student_strength=2.0)
    Method(chosen, problem)
    spaces = spaces_of(problem.features, PARTS, 12)
    assert [(space.dimensions.start, space.dimensions.stop) for space in spaces] == [(0, 40), (40, 64), (0, 64)]
    given = problem.labelled.index.tolist()
    rows = [[loop_components(space, row) for row in problem.features.astype(float)] for space in spaces]
    teachers = calls[:6]
    assert [strength for _, _, strength in calls] == [3.0, 30.0] * 3 + [2.0] * 3
    probes = []
    for number, (unit, known, strength) in enumerate(teachers):
        assert known == label[given].tolist()
        np.testing.assert_allclose(unit, [rows[number // 2][i] for i in given], atol=1e-5)
        probes.append(fit_probe(unit, torch.tensor(known), strength, 200))
    expected = []
    for i in range(150):
        share, own = [0.0] * 10, []
        for number, probe in enumerate(probes):
            logits = [
                sum(float(w) * x for w, x in zip(weight, rows[number // 2][i], strict=True)) + float(bias)
                for weight, bias in zip(probe.weight, probe.bias, strict=True)
            ]
            probability = softmax(logits)
            own.append(max(range(10), key=lambda c: probability[c]))
            share = [total + value / 6 for total, value in zip(share, probability, strict=True)]
        if how == "mean_label":
            share = [own.count(c) + total / 2 for c, total in enumerate(share)]
        expected.append(max(range(10), key=lambda c: share[c]))
    for i in given:
        expected[i] = int(label[i])
    for number, (unit, known, _) in enumerate(calls[6:]):
        assert known == expected
        np.testing.assert_allclose(unit, rows[number], atol=1e-5)


def test_labelled_images_keep_their_labels_against_the_vote(network, monkeypatch):
    problem, label = digits_problem(network, 3)
    given = problem.labelled.index
    swapped = problem.labelled.label.clone()
    swapped[swapped == 1] = 7  # against all others
    swapped[0], swapped[1] = 1, 1
    seen = []
    monkeypatch.setattr(_voting, "fit_probe", lambda *a: seen.append(a[1]) or fit_probe(*a))
    Method(Settings(strengths=(0.01,)), replace(problem, labelled=replace(problem.labelled, label=swapped)))
    assert seen[0].tolist() == swapped.tolist()
    assert seen[1][given].tolist() == swapped.tolist()
    assert len(seen[1]) == len(label)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(2, 6)),
    seed=st.integers(0, 1000),
    how=st.sampled_from(["mean_probability", "mean_label"]),
)
def test_votes_sum_to_one_and_know_no_order_of_probes_or_classes(shape, seed, how):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(shape[2]), shape[:2]).astype(np.float32)
    found = votes(probability, how)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert found.min() >= 0
    probes, classes = rng.permutation(shape[0]), rng.permutation(shape[2])
    np.testing.assert_allclose(votes(probability[probes], how), found, atol=1e-6)
    np.testing.assert_allclose(votes(probability[:, :, classes], how), found[:, classes], atol=1e-6)
    if shape[0] == 1:
        np.testing.assert_array_equal(found.argmax(axis=1), probability[0].argmax(axis=1))


def test_the_mean_probability_decides_between_equal_shares():
    probability = np.array([[[0.9, 0.1, 0.0]], [[0.4, 0.6, 0.0]]], np.float32)
    assert votes(probability, "mean_label").argmax() == 0
    # Two against one, however certain that one is.
    more = np.concatenate([probability, np.array([[[0.4, 0.6, 0.0]]], np.float32)])
    assert votes(more, "mean_label").argmax() == 1
    assert votes(more, "mean_probability").argmax() == 0


def test_permuted_classes_are_predicted_permuted(network):
    order = torch.from_numpy(np.random.default_rng(1).permutation(10))
    problem, _ = digits_problem(network, 3, PARTS, count=600)
    before = Method(Settings(), problem).training_logits()
    renamed = replace(problem, labelled=replace(problem.labelled, label=order[problem.labelled.label]))
    after = Method(Settings(), renamed).training_logits()
    torch.testing.assert_close(after[:, order].exp(), before.exp(), atol=0.02, rtol=0)
    assert (after[:, order].argmax(dim=1) == before.argmax(dim=1)).float().mean() > 0.99


@pytest.mark.parametrize("components", [64, 20])
def test_a_single_probe_without_self_training_predicts_as_a_linear_probe(network, components):
    problem, _ = digits_problem(network, 3)
    method = Method(Settings(strengths=(10.0,), self_training=False, components=components), problem)
    assert network.head.settings.heads == 1
    (space,) = spaces_of(problem.features, (64,), components)
    index = problem.labelled.index.numpy()
    probe = fit_probe(space.components(problem.features[index]), problem.labelled.label, 10.0, 200)
    expected = probe.probabilities(space.components(problem.features))
    np.testing.assert_allclose(method.training_logits().exp(), expected, atol=1e-5)


@pytest.mark.parametrize("parts", [None, PARTS], ids=["one network", "joined"])
def test_the_head_is_the_mean_of_the_probes_for_float32_features_as_well(network, parts):
    problem, _ = digits_problem(network, 3, parts)
    features, index = problem.features, problem.labelled.index.numpy()
    spaces = spaces_of(features, parts or (64,), 30)
    voters = fit_voters(spaces, features[index], problem.labelled.label, (1.0, 100.0), 200)
    assert len(voters) == 2 * len(spaces)
    head = voters.head(64)
    assert head.settings.heads == len(voters)
    assert head.settings.unit_features == (parts is None)
    network.head = head
    expected = voters.probabilities(features).mean(axis=0)
    np.testing.assert_allclose(head_logits(network, features).exp(), expected, atol=2e-3)
    np.testing.assert_allclose(head_logits(network, features.astype(np.float32)).exp(), expected, atol=2e-3)


def test_no_single_linear_layer_predicts_as_the_head_does(network):
    problem, _ = digits_problem(network, 2, PARTS, count=300)
    head = Method(Settings(), problem).selected().head
    with pytest.raises(UserError, match="mean probabilities of 3 layers"):
        linear_classifier(head)


def test_equal_seeds_give_equal_bits(network):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        problem, _ = digits_problem(network, 2)
        weights.append(Method(Settings(images=100), problem).selected().head.linear.weight.clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_of_many_images_some_of_each_class_are_learned_from(network, monkeypatch, capsys):
    problem, _ = digits_problem(network, 2)
    seen = []
    monkeypatch.setattr(_voting, "fit_probe", lambda *a: seen.append(a) or fit_probe(*a))
    Method(Settings(strengths=(10.0,), images=200), problem)
    known = seen[1][1].bincount(minlength=10)
    assert len(seen[1][0]) == len(seen[1][1]) == known.sum() <= 220
    assert known.max() - known.min() <= 2  # as many of each class, and two labelled ones
    assert known.sum() > 180
    line = capsys.readouterr().out
    assert f"self-training learns from {known.sum() - 20} of 1777 unlabelled images" in line
    assert "raise semisup.voting_probes.images" in line


def test_a_line_says_what_voted_and_the_history_how_many_agree(network, capsys):
    problem, label = digits_problem(network, 3, PARTS)
    method = Method(Settings(), problem)
    row = method.after_epoch({})
    assert row["labels"] == 30
    line = capsys.readouterr().out
    assert "semisup.voting_probes: 9 probes vote (feature spaces × strengths: 3 × 3), all agree on " in line
    assert f"on {row['unanimous']:.0%} of 1767 unlabelled images" in line
    assert "semisup.voting_probes.strengths" in line
    assert "self-training learns" not in line  # from all
    spaces = spaces_of(problem.features, PARTS, 256)
    voters = fit_voters(
        spaces, problem.features[problem.labelled.index.numpy()], problem.labelled.label, (1, 10, 100), 200
    )
    own = voters.probabilities(problem.features).argmax(axis=2)
    rest = np.setdiff1d(np.arange(len(label)), problem.labelled.index.numpy())
    assert row["unanimous"] == pytest.approx(np.mean([len(set(own[:, i])) == 1 for i in rest]))
    expected = (method.training_logits()[-200:].argmax(dim=1).numpy() == label[-200:]).mean()
    assert row["monitor/held_out_acc"] == pytest.approx(expected)


def test_without_unlabelled_images_the_first_probes_predict(network, capsys):
    problem, label = digits_problem(network, 5, count=200)
    everything = LabelledImages(problem.labelled.images, torch.arange(200), torch.from_numpy(label), CLASSES)
    method = Method(Settings(), replace(problem, labelled=everything))
    assert method.selected().head.settings.heads == 3
    assert "3 probes vote (feature spaces × strengths: 1 × 3); other ones" in capsys.readouterr().out
    assert method.after_epoch({})["unanimous"] == 1


def test_features_in_a_file_are_read_in_chunks(network, tmp_path, monkeypatch):
    problem, _ = digits_problem(network, 2)
    expected = Method(Settings(), problem).training_logits()
    np.save(tmp_path / "features.npy", problem.features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    monkeypatch.setattr(_voting, "ROWS", 100)
    asked = []
    monkeypatch.setattr(
        _voting.Voters,
        "probabilities",
        lambda self, rows, whole=_voting.Voters.probabilities: asked.append(len(rows)) or whole(self, rows),
    )
    found = Method(Settings(), replace(problem, features=mapped)).training_logits()
    torch.testing.assert_close(found.exp(), expected.exp(), atol=1e-4, rtol=0)
    assert max(asked) == 100
    assert sum(asked) == 1797


@settings(max_examples=10)
@given(components=st.integers(1, 40), parts=st.sampled_from([(30,), (10, 20), (5, 5, 20)]))
def test_spaces_are_each_network_and_all_together(components, parts):
    rows = np.random.default_rng(0).normal(size=(50, 30))
    spaces = spaces_of(rows, parts, components)
    assert len(spaces) == (1 if len(parts) == 1 else len(parts) + 1)
    assert [space.networks for space in spaces] == ([1] if len(parts) == 1 else [1] * len(parts) + [len(parts)])
    sizes = [*parts, *([30] if len(parts) > 1 else [])]
    assert [space.pca.basis.shape for space in spaces] == [(size, min(size, components)) for size in sizes]


def test_no_strength_is_refused():
    with pytest.raises(UserError, match="strengths: no number found"):
        Settings(strengths=())
