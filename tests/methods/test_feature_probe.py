"""The probes of propagation's folds: those of a fold go on from one strength to the next, to the same minimum."""

import functools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sslpipe.methods.semisup import _logistic
from sslpipe.methods.semisup._feature_probe import left_out_probes
from sslpipe.methods.semisup._logistic import regress, stratified_folds

STRENGTHS = (10.0, 1.0, 1000.0, 100.0)


@pytest.fixture(scope="module")
def digits():
    """Unit features [300, 64] and classes of digits."""
    data = load_digits()
    unit = data.data[:300] / np.linalg.norm(data.data[:300], axis=1, keepdims=True)
    return unit.astype(np.float32), torch.from_numpy(data.target[:300]).long()


def test_probabilities_are_those_of_regressions_that_start_from_0(digits, monkeypatch):
    exactly = functools.partial(torch.optim.LBFGS, tolerance_change=1e-15, tolerance_grad=1e-10)
    monkeypatch.setattr(torch.optim, "LBFGS", exactly)  # at the minimum, not near it
    unit, label = digits
    folds = stratified_folds(label, 3)
    found = left_out_probes(unit, label, STRENGTHS, folds, 3000)
    assert list(found) == list(STRENGTHS)
    features = torch.from_numpy(unit).double()
    for strength in STRENGTHS:
        for others, inside in folds:
            weight, bias = regress(
                features[others], label[others], 1 / (strength * len(label)), 3000, standardize=False
            )
            expected = (features[inside] @ weight.T + bias).softmax(dim=1)
            np.testing.assert_allclose(found[strength][inside], expected, atol=1e-4)


def test_a_fold_begins_from_0_and_goes_on_from_the_smaller_strength(digits, monkeypatch):
    unit, label = digits
    fits, solved = [], []

    def recorded(features, label, penalty, iterations, *, standardize, start):
        fits.append((penalty, start is None or start[1] is solved[-1]))
        fits[-1] = (*fits[-1], start is None)
        solved.append(torch.zeros(10, dtype=torch.float64))
        return torch.zeros(10, 64, dtype=torch.float64), solved[-1]

    monkeypatch.setattr(_logistic, "regress", recorded)
    left_out_probes(unit, label, STRENGTHS, stratified_folds(label, 2), 100)
    assert all(last for _, last, _ in fits)
    assert [cold for *_, cold in fits] == [True, False, False, False] * 2
    assert [1 / penalty for penalty, *_ in fits] == pytest.approx([300 * s for s in sorted(STRENGTHS)] * 2)


def test_the_loss_has_the_precision_of_the_features(digits):
    unit, label = digits
    features = torch.from_numpy(unit).double()

    def loss_of(weight, bias):
        penalty = 1e-4 / 2 * weight.square().sum()
        return torch.nn.functional.cross_entropy(features @ weight.T + bias, label) + penalty

    with pytest.MonkeyPatch.context() as patch:
        exactly = functools.partial(torch.optim.LBFGS, tolerance_change=1e-15, tolerance_grad=1e-10)
        patch.setattr(torch.optim, "LBFGS", exactly)
        solution = regress(features, label, 1e-4, 3000, standardize=False)
    solution = [value.requires_grad_() for value in solution]
    loss_of(*solution).backward()
    assert max(value.grad.abs().max() for value in solution) < 1e-7  # with a loss in float32: 4e-6
