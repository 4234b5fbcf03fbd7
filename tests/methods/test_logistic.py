import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sslpipe.methods.semisup._logistic import labelled_features, regress, set_classifier
from sslpipe.nets.inference import infer


def sample(seed, labels=30, width=5, classes=3):
    random = np.random.default_rng(seed)
    label = np.concatenate([np.arange(classes), random.integers(0, classes, labels - classes)])
    scale = random.uniform(0.1, 20, width)
    features = (random.normal(size=(labels, width)) + random.normal(size=(classes, width))[label]) * scale + 7
    return torch.from_numpy(features), torch.from_numpy(label)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-3, 1e-2, 1e-1, 1.0]), st.integers(3, 5))
def test_agrees_with_scikit_learn(seed, penalty, classes):
    features, label = sample(seed, classes=classes)
    deviation = [features[:, i].std().item() for i in range(features.shape[1])]
    usual = (sum(each**2 for each in deviation) / len(deviation)) ** 0.5
    standard = (
        (features - features.mean(dim=0)) / torch.tensor([max(each, 0.3 * usual) for each in deviation])
    ).numpy()
    # Scikit-learn's C Σ cross-entropy + |W|²/2 is 1/λ times ours at C = 1 / (L λ); of two classes it has one vector.
    theirs = LogisticRegression(C=1 / (len(label) * penalty), tol=1e-8, max_iter=2000).fit(standard, label.numpy())
    weight, bias = regress(features, label, penalty, 500)
    mine = (features @ weight.T + bias).softmax(dim=1).numpy()
    np.testing.assert_allclose(mine, theirs.predict_proba(standard), atol=2e-3)


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_predictions_do_not_depend_on_the_features_units(seed):
    features, label = sample(seed)
    logits = [
        x @ weight.T + bias for x in (features, features * 50 - 3) for weight, bias in [regress(x, label, 0.01, 300)]
    ]
    torch.testing.assert_close(*logits, rtol=1e-2, atol=1e-2)


def test_the_penalty_draws_the_weights_in():
    features, label = sample(0)
    norms = [regress(features, label, penalty, 300)[0].norm().item() for penalty in (1e-4, 1e-2, 1.0)]
    assert norms == sorted(norms, reverse=True)


def test_a_feature_that_never_changes_does_no_harm():
    features, label = sample(0)
    features[:, 2] = 4.0
    weight, bias = regress(features, label, 1e-3, 200)
    assert weight.isfinite().all()
    assert bias.isfinite().all()
    assert ((features @ weight.T + bias).argmax(dim=1) == label).float().mean() > 0.7


@pytest.mark.parametrize("seed", range(3))
def test_features_that_hardly_change_among_few_labelled_images_are_no_noise_in_others(seed):
    """Five features tell the classes; twenty are nearly 0 in the labelled images, and are not in the others."""
    random = np.random.default_rng(seed)
    label = np.tile(np.arange(4), 52)
    centers = np.eye(4, 5) * 4
    useful = centers[label] + random.normal(size=(208, 5))
    others = random.normal(size=(208, 20))
    others[:8] *= 1e-3
    features = torch.from_numpy(np.concatenate([useful, others], axis=1))
    known = torch.from_numpy(label)
    weight, bias = regress(features[:8], known[:8], 1e-3, 200)
    found = (features[8:] @ weight.T + bias).argmax(dim=1)
    assert (found == known[8:]).float().mean() > 0.7


@pytest.mark.parametrize("training", [True, False])
def test_features_are_those_of_the_labelled_images_as_they_are(network, labelled, training):
    network.train(training)
    features, label = labelled_features(network, labelled)
    assert network.training is training
    assert features.dtype == torch.float64
    assert torch.equal(label, labelled.label)
    expected = infer(network.eval().features, labelled.images)[labelled.index]
    torch.testing.assert_close(features, expected.double(), rtol=1e-4, atol=1e-5)


def test_a_layer_takes_weights_and_biases():
    layer = torch.nn.Linear(5, 3)
    weight, bias = (
        torch.arange(15.0, dtype=torch.float64).view(3, 5),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
    )
    set_classifier(layer, weight, bias)
    assert layer.weight.dtype == torch.float32
    torch.testing.assert_close(layer(torch.ones(1, 5)), (weight.sum(dim=1) + bias).float()[None])
