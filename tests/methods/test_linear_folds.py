"""The folds of the linear probe's cross-validation: fitted on all but one, scored on that one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from sslpipe.methods.finetune import linear
from sslpipe.methods.semisup import _logistic
from sslpipe.methods.semisup._logistic import regress


def noisy_features(seed, each=4, classes=3, dimension=8):
    """Features, float64 [classes · each, dimension], the first ones weakly of the class; and the classes."""
    label = torch.arange(classes).repeat(each)
    noise = torch.randn(len(label), dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise[torch.arange(len(label)), label] += 1.5
    return noise, label


def penalty_by_loops(features, label, chosen, *, swapped=False):
    """The candidate of the lowest mean cross-entropy on the left-out fold; swapped: fitted on that fold alone."""
    folds = list(StratifiedKFold(chosen.folds).split(label, label))
    losses = []
    for penalty in chosen.penalties:
        mean = 0.0
        for fitted, left_out in ((b, a) if swapped else (a, b) for a, b in folds):
            weight, bias = regress(features[fitted], label[fitted], penalty, chosen.iterations)
            for image in left_out:
                log_p = (weight @ features[image] + bias).log_softmax(dim=0)
                mean -= float(log_p[label[image]]) / len(left_out) / len(folds)
        losses.append(mean)
    return chosen.penalties[losses.index(min(losses))]


CHOSEN = linear.Settings(folds=4, penalties=(1e-2, 1e-1, 1.0), iterations=30)


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_the_penalty_is_that_of_loops_and_not_that_of_swapped_folds(seed):
    features, label = noisy_features(seed)
    expected = penalty_by_loops(features, label, CHOSEN)
    assert linear.choose_penalty(features, label, CHOSEN) == expected
    assert penalty_by_loops(features, label, CHOSEN, swapped=True) != expected


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_the_penalty_does_not_depend_on_the_mean_of_the_features(seed):
    features, label = noisy_features(seed)
    assert linear.choose_penalty(features + 20, label, CHOSEN) == linear.choose_penalty(features, label, CHOSEN)


@settings(max_examples=20, deadline=None)
@given(each=st.integers(2, 7), folds=st.integers(2, 6), order=st.randoms(use_true_random=False))
def test_every_image_is_left_out_of_one_fit_a_penalty(each, folds, order):
    label = torch.arange(3).repeat(each).tolist()
    order.shuffle(label)
    label = torch.tensor(label)
    number = torch.arange(len(label), dtype=torch.float64)[:, None]  # the feature of an image is its number
    fitted = []

    def regress_and_record(features, label, penalty, iterations, **_):
        fitted.append((penalty, features[:, 0].long()))
        return torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_logistic, "regress", regress_and_record)
        linear.choose_penalty(number, label, linear.Settings(folds=folds, penalties=(0.1, 1.0)))
    count = min(folds, each)
    for penalty in (0.1, 1.0):
        fits = [images for at, images in fitted if at == penalty]
        assert len(fits) == count
        assert torch.cat(fits).bincount(minlength=len(label)).tolist() == [count - 1] * len(label)
        for images in fits:  # a fold holds as many images of each class, but for one
            left_out = each - label[images].bincount(minlength=3)
            assert set(left_out.tolist()) <= {each // count, -(-each // count)}
