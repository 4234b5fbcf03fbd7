import copy
from dataclasses import replace

import pytest
import torch

from sslpipe.methods.finetune import linear, semisupervised, supervised
from sslpipe.methods.semisup import suave
from sslpipe.methods.semisup._base import LabelledMethod
from sslpipe.methods.semisup._logistic import DEFAULT_PENALTY, labelled_features, regress
from sslpipe.methods.semisup._suave import SuaveMethod
from sslpipe.nets.heads import LinearHead, LinearSettings, ProjectionHead, ProjectionSettings
from sslpipe.nets.inference import infer
from sslpipe.objectives.supervised import cross_entropy


def test_linear_leaves_the_backbone_alone(problem, labelled):
    before = {name: value.clone() for name, value in problem.network.backbone.state_dict().items()}
    method = linear.Method(linear.Settings(penalties=(1e-3, 1e-1), folds=2), problem)
    network = method.selected()
    assert all(torch.equal(value, before[name]) for name, value in network.backbone.state_dict().items())
    features, label = labelled_features(network, labelled)
    row = method.after_epoch({})
    assert row == {"penalty": method.penalty, "labels": 40}
    weight, bias = regress(features, label, row["penalty"], 200)
    torch.testing.assert_close(network.head.weight, weight.float())
    torch.testing.assert_close(network.head.bias, bias.float())
    prediction = network.head(features.float()).argmax(dim=1)
    assert (prediction == label).float().mean() > 0.9


def test_linear_on_stored_features_is_linear_on_images(problem, labelled, monkeypatch):
    """With features in float32, so that they have no rounding of their own."""
    settings = linear.Settings(penalties=(1e-3, 1e-1), folds=2)
    passed = linear.Method(settings, copy.deepcopy(problem))
    assert passed.training_logits() is None
    stored = infer(problem.network.eval().features, labelled.images).numpy()
    monkeypatch.setattr(type(problem.network), "features", None)
    read = linear.Method(settings, replace(problem, features=stored))
    monkeypatch.undo()
    torch.testing.assert_close(read.network.head.weight, passed.network.head.weight, rtol=1e-5, atol=1e-5)
    assert read.after_epoch({}) == passed.after_epoch({})
    logits = infer(passed.network.eval(), labelled.images)
    torch.testing.assert_close(read.training_logits(), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("outputs", [10, 12])
def test_linear_fits_anew_whatever_the_start_knew(problem, outputs):
    problem.network.head = known = LinearHead(problem.network.backbone.dimension, LinearSettings(outputs=outputs))
    before = known.weight.detach().clone()
    network = linear.Method(linear.Settings(penalties=(1e-2,), folds=2), problem).selected()
    assert network.head.out_features == 10
    assert not torch.equal(network.head.weight, before)


def held_out_loss(features, label, penalty, folds):
    """Cross-validation by loops; the images of a class go to the parts in turn."""
    part, seen = [], {}
    for each in label.tolist():
        part.append(seen.get(each, 0) % folds)
        seen[each] = seen.get(each, 0) + 1
    part = torch.tensor(part)
    losses = []
    for fold in range(folds):
        weight, bias = regress(features[part != fold], label[part != fold], penalty, 200)
        losses.append(cross_entropy(features[part == fold] @ weight.T + bias, label[part == fold]).item())
    return sum(losses) / folds


def noisy(each=4, noise=2.0):
    random = torch.Generator().manual_seed(0)
    label = torch.arange(3).repeat(each)
    features = torch.eye(3)[label] + noise * torch.randn(len(label), 3, generator=random)
    return features.double(), label


@pytest.mark.parametrize("noise", [0.05, 2.0])
def test_the_penalty_is_the_candidate_under_which_images_left_out_are_likeliest(noise, capsys):
    features, label = noisy(noise=noise)
    settings = linear.Settings(penalties=(1e-4, 1e-2, 1.0), folds=5)
    chosen = linear.choose_penalty(features, label, settings)
    expected = min(settings.penalties, key=lambda penalty: held_out_loss(features, label, penalty, 4))
    assert chosen == expected
    assert "4-fold cross-validation over 12 labels" in capsys.readouterr().out


def test_noise_wants_a_greater_penalty():
    settings = linear.Settings(penalties=(1e-4, 1.0))
    assert [linear.choose_penalty(*noisy(noise=noise), settings) for noise in (0.05, 2.0)] == [1e-4, 1.0]


def test_one_label_a_class_leaves_nothing_to_choose_by(capsys):
    features, label = noisy(each=1)
    assert linear.choose_penalty(features, label, linear.Settings(penalties=(1.0,))) == DEFAULT_PENALTY
    assert "a class has only one label" in capsys.readouterr().out


def test_the_rarest_class_bounds_the_folds(capsys):
    features, label = noisy(each=4)
    kept = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 9, 10])  # class 2 twice, the others four times
    linear.choose_penalty(features[kept], label[kept], linear.Settings(penalties=(0.1,)))
    assert "2-fold" in capsys.readouterr().out


def test_supervised_trains_all_weights(problem, labelled):
    method = supervised.Method(supervised.Settings(head_init="logistic"), problem)
    assert isinstance(method, LabelledMethod)
    assert type(method).losses is LabelledMethod.losses
    assert method.labelled is labelled
    assert method.selected() is problem.network
    assert all(weight.requires_grad for weight in method.network.parameters())


def test_semisupervised_starts_with_a_suave_models_projection_and_new_prototypes(problem, labelled):
    shape = {"hidden": 32, "outputs": 16, "queue": 0}
    start = suave.Method(suave.Settings(**shape), problem).network
    projection = start.head.projection[0].weight.clone()
    prototypes = start.head.prototypes.weight.clone()
    settings = semisupervised.Settings(**shape, projection_init="pretrained")
    method = semisupervised.Method(settings, replace(problem, network=start))
    assert isinstance(method, SuaveMethod)
    assert method.labelled is labelled
    head = method.network.head
    assert torch.equal(head.projection[0].weight, projection)
    assert not torch.equal(head.prototypes.weight, prototypes)


def test_a_pretext_projection_is_dropped_by_the_classifier(problem):
    problem.network.head = ProjectionHead(problem.network.backbone.dimension, ProjectionSettings(hidden=8, outputs=10))
    method = supervised.Method(supervised.Settings(), problem)
    assert isinstance(method.network.head, LinearHead)
