"""Groups distilled into a linear layer."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from sslpipe.methods._distil import DistilSettings, linear_of_groups
from sslpipe.nets.unit_heads import ConsensusHead


def kinds(count=300, number=3, noise=0.4, seed=0):
    random = np.random.default_rng(seed)
    kind = np.arange(count) % number
    rows = 2 + np.eye(12)[kind] + noise * random.standard_normal((count, 12))
    return (rows * random.uniform(1, 9, (count, 1))).astype(np.float16), kind


def logits(features, weight, bias):
    head = ConsensusHead.of(torch.tensor(weight)[None], torch.tensor(bias)[None], unit_features=True)
    with torch.no_grad():
        return head(torch.from_numpy(features)).numpy()


@pytest.mark.parametrize("number", [2, 3, 5])
def test_is_scikit_learns_regression_on_unit_features(number):
    rows, kind = kinds(number=number)
    weight, bias = linear_of_groups(rows, kind, clusters=number, settings=DistilSettings(), seed=0)
    unit = normalize(rows.astype(np.float64))
    reference = LogisticRegression(C=10.0, class_weight="balanced", max_iter=3000).fit(unit, kind)
    found = np.exp(logits(rows, weight, bias))
    np.testing.assert_allclose(found, reference.predict_proba(unit), atol=0.01)


def test_small_groups_count_as_much_as_large_ones():
    rows, kind = kinds(600, 2, noise=1.0)
    few = np.concatenate([np.flatnonzero(kind == 0), np.flatnonzero(kind == 1)[:30]])
    weight, bias = linear_of_groups(rows[few], kind[few], clusters=2, settings=DistilSettings(), seed=0)
    answers = logits(rows, weight, bias).argmax(axis=1)
    assert 0.35 < (answers == 1).mean() < 0.65


def test_images_without_a_group_are_left_out_and_empty_groups_never_answered():
    rows, kind = kinds()
    groups = np.where(np.arange(300) < 200, kind, -1)
    weight, bias = linear_of_groups(rows, groups, clusters=5, settings=DistilSettings(), seed=0)
    answers = logits(rows, weight, bias)
    assert (answers.argmax(axis=1) == kind).mean() > 0.9
    assert np.exp(answers[:, 3:]).max() == 0
    one = linear_of_groups(rows, np.full(300, 2), clusters=4, settings=DistilSettings(), seed=0)
    assert (logits(rows, *one).argmax(axis=1) == 2).all()


def test_a_sample_of_many_images_is_enough_and_follows_the_seed():
    rows, kind = kinds(900)
    settings = DistilSettings(images=90)
    first, again, other = (linear_of_groups(rows, kind, clusters=3, settings=settings, seed=s)[0] for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_group_is_refused():
    with pytest.raises(ValueError, match="no image with a group"):
        linear_of_groups(kinds()[0], np.full(300, -1), clusters=3, settings=DistilSettings(), seed=0)
