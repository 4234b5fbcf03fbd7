"""The linear probe with many labels: as with few, for less."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils._python_dispatch import TorchDispatchMode

from sslpipe.methods.finetune import linear
from sslpipe.methods.semisup import _logistic
from sslpipe.methods.semisup._logistic import regress, solvable


def of_digits():
    data = load_digits()
    return torch.from_numpy(data.data[:600]), torch.from_numpy(data.target[:600]).long()


def synthetic(count=500, classes=6, seed=0):
    random = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % classes
    centre = torch.randn(classes, 16, generator=random, dtype=torch.float64)
    return 0.6 * centre[label] + torch.randn(count, 16, generator=random, dtype=torch.float64), label


@pytest.fixture
def many(monkeypatch):
    """Let a few hundred labels be many."""

    def apply(limit="MANY", above=100, chunk=64):
        monkeypatch.setattr(_logistic, limit, above)
        monkeypatch.setattr(_logistic, "CHUNK", chunk)

    return apply


@pytest.mark.parametrize("limit", ["MANY", "WORK"])
@pytest.mark.parametrize("data", [of_digits, synthetic])
def test_penalty_and_predictions_are_those_of_few_labels(data, limit, many):
    features, label = data()
    settings = linear.Settings(penalties=(1e-3, 1e-2, 1e-1, 1.0), folds=3, iterations=100)

    def probe():
        given = solvable(features.float(), label)
        penalty = linear.choose_penalty(given, label, settings)
        weight, bias = regress(given, label, penalty, 200)
        assert weight.dtype == given.dtype
        return penalty, given.dtype, (given @ weight.T + bias).double()

    penalty, kind, logits = probe()
    many(limit)
    penalty_of_many, kind_of_many, logits_of_many = probe()
    assert (kind, kind_of_many) == (torch.float64, torch.float32)
    assert penalty_of_many == penalty
    assert torch.equal(logits.argmax(dim=1), logits_of_many.argmax(dim=1))
    torch.testing.assert_close(logits.softmax(dim=1), logits_of_many.softmax(dim=1), atol=2e-3, rtol=0)


def test_chunks_change_neither_the_loss_nor_its_minimum(many):
    features, label = synthetic()
    whole = regress(features, label, 1e-2, 100)
    many(chunk=64)
    for found, expected in zip(regress(features, label, 1e-2, 100), whole, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_as_many_steps_are_remembered_as_memory_allows_and_the_minimum_is_the_same(monkeypatch):
    features, label = synthetic()
    asked, solver = [], torch.optim.LBFGS
    monkeypatch.setattr(torch.optim, "LBFGS", lambda *given, **more: asked.append(more) or solver(*given, **more))
    whole = regress(features, label, 1e-2, 200)
    monkeypatch.setattr(_logistic, "HISTORY_BYTES", 30 * 6 * 16 * 8)
    for found, expected in zip(regress(features, label, 1e-2, 200), whole, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    monkeypatch.setattr(_logistic, "HISTORY_BYTES", 0)
    regress(features, label, 1e-2, 1)
    assert [each["history_size"] for each in asked] == [100, 15, 10]


def test_a_start_is_a_solution_of_the_features_as_they_are():
    features, label = synthetic()
    features = features * torch.arange(1.0, 17) + 5
    solved = regress(features, label, 1e-2, 300)
    for found, expected in zip(regress(features, label, 1e-2, 1, start=solved), solved, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def recorded(monkeypatch):
    fits = []

    def regress_and_record(features, label, penalty, iterations, *, standardize, start):
        fits.append((penalty, len(features), start is not None))
        return torch.zeros(6, 16, dtype=features.dtype), torch.zeros(6, dtype=features.dtype)

    monkeypatch.setattr(_logistic, "regress", regress_and_record)
    return fits


def test_with_many_labels_each_penalty_starts_from_the_larger_one(monkeypatch, many):
    many()
    fits = recorded(monkeypatch)
    linear.choose_penalty(*synthetic(), linear.Settings(penalties=(0.1, 1.0, 0.01), folds=2))
    assert [(penalty, start) for penalty, _, start in fits] == [(1.0, False), (0.1, True), (0.01, True)] * 2
    many(above=500)
    fits.clear()
    linear.choose_penalty(*synthetic(), linear.Settings(penalties=(0.1, 1.0), folds=2))
    assert not any(start for *_, start in fits)


@pytest.mark.parametrize(("up_to", "folds"), [(500, 5), (499, 1)])
def test_above_some_labels_one_fold_is_left_out_and_a_line_says_so(monkeypatch, capsys, up_to, folds):
    fits = recorded(monkeypatch)
    linear.choose_penalty(*synthetic(), linear.Settings(penalties=(0.1, 1.0), all_folds_up_to=up_to))
    assert len(fits) == 2 * folds
    assert all(395 <= count <= 405 for _, count, _ in fits)  # four of five folds
    line = capsys.readouterr().out
    if folds == 1:
        assert line.endswith("of 500 labels; finetune.linear.all_folds_up_to: 500 takes all 5\n")
        assert "by the first of 5 folds, of 10" in line
    else:
        assert "by 5-fold cross-validation over 500 labels" in line


class Largest(TorchDispatchMode):
    """The most rows of logits [·, 6] that an operation returned, and the types of what has so many columns."""

    rows = 0

    def __torch_dispatch__(self, function, types, given=(), named=None):
        result = function(*given, **(named or {}))
        if isinstance(result, torch.Tensor) and result.dim() == 2 and result.shape[1] == 6:
            self.rows = max(self.rows, len(result))
        return result


def test_logits_of_a_chunk_are_in_memory_not_of_all_labels(many):
    many(chunk=64)
    with Largest() as seen:
        regress(*synthetic(), 1e-2, 3)
    assert seen.rows == 64
