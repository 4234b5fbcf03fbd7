"""semisup.propagation: what it chooses and why, its model, and that it learns digits from four labels a class."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sslpipe.data.held_out import HeldOut
from sslpipe.data.images import Images
from sslpipe.data.labelled import LabelledImages
from sslpipe.io.errors import UserError
from sslpipe.methods.semisup import propagation
from sslpipe.methods.semisup._answers import by_cross_validation, by_rule, drawn_labels, product_of
from sslpipe.methods.semisup._base import Problem
from sslpipe.methods.semisup._feature_probe import fit_probe, principal_basis, reduced_features
from sslpipe.methods.semisup.propagation import Method, Settings
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.inference import head_logits

CLASSES = tuple("0123456789")


@pytest.fixture(scope="session")
def pixels():
    """The pixels of the digits as features, float16 [1797, 64], their neighbours, cosines, and classes."""
    images, label = load_digits(return_X_y=True)
    features = (images / 16).astype(np.float16)
    return features, *nearest_neighbors(torch.from_numpy(features), k=20), label


def problem_of(pixels, network, each, seed=0):
    """`each` labels of every class, drawn at random; the last 200 images are held out besides."""
    features, neighbors, similarities, label = pixels
    random = np.random.default_rng(seed)
    index = np.sort(np.concatenate([random.choice(np.flatnonzero(label == c), each, replace=False) for c in range(10)]))
    images = Images(np.zeros((len(features), 1, 8, 8), np.uint8), torch.device("cpu"))
    labelled = LabelledImages(images, torch.from_numpy(index), torch.from_numpy(label[index]), CLASSES)
    held_out = HeldOut(Images(images.array[-200:], torch.device("cpu")), torch.from_numpy(label[-200:]))
    return Problem(network, labelled, held_out, None, features, features[-200:], neighbors, similarities)


def accuracy(method, pixels):
    """The accuracy on the images without a label."""
    rest = np.setdiff1d(np.arange(len(pixels[3])), method.problem.labelled.index.numpy())
    return float((method.training_logits().argmax(dim=1).numpy() == pixels[3])[rest].mean())


def test_with_four_labels_a_class_propagation_is_better_than_the_probe(pixels, network):
    problem = problem_of(pixels, network, 4)
    reached = {
        answer: accuracy(Method(Settings(answer=answer), problem), pixels) for answer in ("propagation", "probe")
    }
    assert reached["propagation"] > 0.88
    assert reached["propagation"] > reached["probe"] + 0.03


def test_with_fifty_labels_a_class_the_product_is_as_good_as_propagation(pixels, network):
    problem = problem_of(pixels, network, 50)
    reached = {
        answer: accuracy(Method(Settings(answer=answer, strengths=(100.0,)), problem), pixels)
        for answer in ("propagation", "product")
    }
    assert reached["product"] >= reached["propagation"] > 0.93


@pytest.mark.parametrize("answer", ["propagation", "probe", "product"])
def test_the_model_predicts_the_training_images_as_the_method_does(pixels, network, answer):
    method = Method(Settings(answer=answer), problem_of(pixels, network, 3))
    assert method.selected() is network
    found = head_logits(network, pixels[0][:300]).softmax(dim=1)
    expected = method.training_logits()[:300].softmax(dim=1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-2)
    assert network.head.settings.answer == answer


def test_new_images_are_predicted_from_their_neighbours(pixels, network):
    """Two thirds of the images are in the bank; the others are as well predicted as these."""
    features, _, _, label = pixels
    neighbors, similarities = nearest_neighbors(torch.from_numpy(features[:1200]), k=20)
    part = (features[:1200], neighbors, similarities, label[:1200])
    method = Method(Settings(answer="propagation"), problem_of(part, network, 5))
    new = head_logits(network, features[1200:]).argmax(dim=1).numpy()
    assert accuracy(method, part) > 0.9
    assert (new == label[1200:]).mean() > 0.85


def test_the_history_has_accuracies_on_left_out_labels_and_held_out_images(pixels, network):
    method = Method(Settings(strengths=(100.0,)), problem_of(pixels, network, 5))
    row = method.after_epoch({})
    assert row["labels"] == 50
    assert {name for name in row if name.startswith("left_out_acc/")} == {
        "left_out_acc/propagation",
        "left_out_acc/probe",
        "left_out_acc/product",
    }
    expected = (method.training_logits()[-200:].argmax(dim=1).numpy() == pixels[3][-200:]).mean()
    assert row["monitor/held_out_acc"] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("each", "answer"), [(1, "propagation"), (3, "propagation"), (4, "product")])
def test_with_few_labels_a_rule_decides_and_says_so(pixels, network, capsys, each, answer):
    method = Method(Settings(), problem_of(pixels, network, each))
    assert method.selected().head.settings.answer == answer
    line = capsys.readouterr().out.splitlines()[0]
    assert f"semisup.propagation: {answer} predicts, by the rule for {each} labels a class" in line
    assert "semisup.propagation.answer" in line


def test_with_more_labels_cross_validation_decides_and_says_so(pixels, network, capsys):
    method = Method(Settings(strengths=(100.0,)), problem_of(pixels, network, 6))
    line = capsys.readouterr().out.splitlines()[0]
    chosen = method.selected().head.settings.answer
    assert f"{chosen} predicts, by the accuracy on left-out labels in 5-fold cross-validation over 60: propa" in line
    assert chosen == "propagation"  # on pixels of digits it is far better


def outputs_with(right):
    """Answer → logits of two classes for labels that are all 0, right where `right` says so."""
    return {
        name: np.stack([np.array(flags, float), 1 - np.array(flags, float)], axis=1) for name, flags in right.items()
    }


@pytest.mark.parametrize(
    ("propagation", "probe", "product", "expected"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], "product"),  # ties
        ([1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0], "product"),  # one more is no more than a standard error
        ([1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], "propagation"),
        ([1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0], "probe"),
        ([0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], "product"),  # three against two
    ],
)
def test_another_answer_must_be_clearly_better_than_the_product(propagation, probe, product, expected):
    outputs = outputs_with({"propagation": propagation, "probe": probe, "product": product})
    choice = by_cross_validation(outputs, np.zeros(len(product), np.int64), folds=2)
    assert choice.answer == expected
    assert choice.accuracies["propagation"] == np.mean(propagation)


@given(labels=st.integers(1, 2000), classes=st.integers(2, 100))
def test_the_rule_takes_the_product_from_four_labels_a_class_on(labels, classes):
    assert by_rule(labels, classes) == ("product" if labels / classes >= 4 else "propagation")


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_a_product_with_equal_probabilities_is_the_probes(seed):
    probed = np.random.default_rng(seed).dirichlet(np.ones(4), 6).astype(np.float32)
    uniform = np.full((6, 4), 0.25, np.float32)
    product = torch.from_numpy(product_of(uniform, probed)).softmax(dim=1)
    torch.testing.assert_close(product, torch.from_numpy(probed))


def apart(problem):
    """The problem with the images of classes 0 and 1 as neighbours of one another only, and no label of class 0 or 1
    among them but one each; ten images are linked to themselves alone."""
    neighbors = problem.neighbors.copy()
    islands = np.setdiff1d(np.arange(len(neighbors)), problem.labelled.index.numpy())[:10]
    outside = np.isin(neighbors, islands)
    outside[islands] = False
    # A link to an island becomes one to the image itself, which counts for nothing.
    neighbors = np.where(outside, np.arange(len(neighbors))[:, None], neighbors)
    neighbors[islands] = np.roll(islands, 1)[:, None]
    return replace(problem, neighbors=neighbors), islands


@pytest.mark.parametrize("answer", ["propagation", "product"])
def test_images_that_no_label_reaches_have_the_probes_classes(pixels, network, capsys, answer):
    problem, islands = apart(problem_of(pixels, network, 4))
    method = Method(Settings(answer=answer, strengths=(10.0,)), problem)
    assert "10 of 1797 training images have no path over neighbours to a labelled one" in capsys.readouterr().out
    probe = fit_probe(
        reduced_features(pixels[0][problem.labelled.index.numpy()], None).astype(np.float32),
        problem.labelled.label,
        10.0,
        200,
    )
    expected = torch.from_numpy(probe.probabilities(reduced_features(pixels[0][islands], None)))
    torch.testing.assert_close(method.training_logits()[islands].softmax(dim=1), expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(head_logits(network, pixels[0][islands]).softmax(dim=1), expected, atol=1e-2, rtol=0.05)


def test_the_probe_is_scikit_learns(pixels):
    features, _, _, label = pixels
    unit, known = reduced_features(features[:60], None).astype(np.float32), label[:60]
    theirs = LogisticRegression(C=10.0, tol=1e-8, max_iter=5000).fit(unit, known)
    probe = fit_probe(unit, torch.from_numpy(known), 10.0, 500)
    np.testing.assert_allclose(probe.probabilities(unit), theirs.predict_proba(unit), atol=2e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), rank=st.integers(1, 5))
def test_reduced_features_have_the_cosines_of_features_of_low_rank(seed, rank):
    random = np.random.default_rng(seed)
    features = random.normal(size=(50, rank)) @ random.normal(size=(rank, 12)) + random.normal(size=12)
    basis = principal_basis(features, 8)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-4)
    found = reduced_features(features, basis).astype(np.float64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, unit @ unit.T, atol=5e-3)


def test_features_of_few_dimensions_are_not_reduced():
    assert principal_basis(np.random.default_rng(0).normal(size=(9, 8)), 8) is None


def test_reduced_features_predict_as_all_of_them_do(pixels, network):
    problem = problem_of(pixels, network, 4)
    whole = accuracy(Method(Settings(answer="propagation"), problem), pixels)
    assert network.head.settings.components is None
    assert accuracy(Method(Settings(answer="propagation", components=24), problem), pixels) == pytest.approx(whole)
    assert network.head.bank.shape == (1797, 24)
    found = head_logits(network, pixels[0]).argmax(dim=1).numpy()
    assert (found == pixels[3]).mean() > 0.88


def test_more_neighbours_than_were_mined_are_refused(pixels, network):
    with pytest.raises(UserError, match="neighbors: 30 asked, 20 mined; raise mine_neighbors"):
        Method(Settings(neighbors=30), problem_of(pixels, network, 2))


def test_fewer_mined_neighbours_are_all_used_by_default(pixels, network):
    problem = problem_of(pixels, network, 3)
    few = replace(problem, neighbors=problem.neighbors[:, :7], similarities=problem.similarities[:, :7])
    assert Method(Settings(), few).selected().head.settings.neighbors == 7
    assert Method(Settings(), problem).selected().head.settings.neighbors == 20


def test_an_alpha_too_close_to_one_is_refused(pixels, network, monkeypatch):
    monkeypatch.setattr("sslpipe.neighbors.propagation.ITERATIONS", 2)
    with pytest.raises(UserError, match=r"semisup.propagation.alpha: 0.999 is too close to 1 .*; lower it"):
        Method(Settings(alpha=0.999), problem_of(pixels, network, 2))


def test_no_strength_is_refused():
    with pytest.raises(UserError, match="strengths: no number found"):
        Settings(strengths=())


def test_what_says_that_it_reads_features_is_this_method_alone():
    assert propagation.Settings.reads_features


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    most=st.integers(1, 150),
    least=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_labels_to_compare_on_are_drawn_evenly(counts, most, least, seed):
    label = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    used = drawn_labels(label, most, least=least, rng=np.random.default_rng(seed))
    assert (np.diff(used) > 0).all()
    drawn = np.bincount(label[used], minlength=len(counts))
    if len(label) <= most:
        assert len(used) == len(label)
        return
    share = int(drawn.max())  # that of every class that has so many
    assert drawn.tolist() == [min(count, share) for count in counts]
    assert share >= min(least, max(counts))
    assert len(used) <= most or share <= least
    assert sum(min(count, share + 1) for count in counts) > most or share >= least


def test_of_many_labels_some_are_compared_and_all_are_used(pixels, network, capsys):
    torch.manual_seed(0)
    problem = problem_of(pixels, network, 40)
    whole = Method(Settings(answer="product"), problem)
    assert "compared on" not in capsys.readouterr().out
    few = Method(Settings(compared_labels=100), problem)
    out = capsys.readouterr().out
    assert "compared on 100 of 400 labels, drawn from each class" in out
    assert "5-fold cross-validation over 100" in out
    assert few.solution.propagated.scores == pytest.approx(whole.solution.propagated.scores, rel=1e-3, abs=1e-5)
    assert accuracy(few, pixels) == pytest.approx(accuracy(whole, pixels), abs=0.02)
