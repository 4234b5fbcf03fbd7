import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.decoding.entries import Entry
from sslpipe.io.errors import UserError
from sslpipe.preparation.splits import Labelled, draw_labelled, draw_splits, protocol_named

LABELS = st.lists(st.integers(-1, 5), max_size=120)
FRACTIONS = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.29, 0.5, 0.9, 1.0])


def split(labels, *, test=0.25, held_out=0.1, protocol="split", seed=0, parts=None, draw="by_class"):
    entries = [Entry(str(i), label, parts[i] if parts else None) for i, label in enumerate(labels)]
    return draw_splits(entries, test=test, held_out=held_out, protocol=protocol, seed=seed, draw=draw)


@given(labels=LABELS, test=FRACTIONS, held_out=FRACTIONS, seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_splits_are_disjoint_exhaustive_ascending_and_stratified(labels, test, held_out, seed):
    drawn = split(labels, test=test, held_out=held_out, seed=seed)
    assert sorted(np.concatenate(list(drawn.values())).tolist()) == list(range(len(labels)))
    assert all((np.diff(index) > 0).all() for index in drawn.values())
    label = np.array(labels, dtype=np.int64)
    pool = np.sort(np.concatenate([drawn["train"], drawn["held_out"]]))
    for index, source, fraction in ((drawn["test"], np.arange(len(labels)), test), (drawn["held_out"], pool, held_out)):
        assert len(index) == int(fraction * len(source) + 0.5)
        for name in range(-1, 6):
            assert abs((label[index] == name).sum() - fraction * (label[source] == name).sum()) < 1 + 1e-9


def test_seeds_draw_differently_and_each_draws_the_same_again():
    labels = [i % 4 for i in range(200)]
    tests = [split(labels, seed=seed)["test"].tolist() for seed in range(4)]
    assert len({tuple(test) for test in tests}) == 4
    assert split(labels, seed=2)["test"].tolist() == tests[2]


def test_the_draws_of_seed_0_are_known():
    # They are promised to be the same on every machine and with every version of numpy.
    drawn = split([0] * 6 + [1] * 6, test=1 / 3, held_out=0.25)
    assert {name: index.tolist() for name, index in drawn.items()} == {
        "train": [1, 3, 5, 6, 8, 11],
        "held_out": [2, 9],
        "test": [0, 4, 7, 10],
    }
    assert draw_labelled(np.array([0, 0, 0, 1, 1, 1]), "ab", Labelled(per_class=1), seed=0).tolist() == [1, 5]


def test_every_image_is_as_likely_to_be_drawn():
    times = np.zeros(40)
    for seed in range(400):
        times[split([0] * 20 + [1] * 20, test=0.5, seed=seed)["test"]] += 1
    # A count has mean 200 and deviation 10.
    assert times.min() > 155
    assert times.max() < 245


def test_the_test_part_of_a_source_is_its_test():
    parts = ["train"] * 20 + ["test"] * 10
    drawn = split([0] * 30, parts=parts)
    assert drawn["test"].tolist() == list(range(20, 30))
    assert len(drawn["held_out"]) == 2


@pytest.mark.parametrize("parts", [None, ["train"] * 20 + ["test"] * 10])
def test_the_full_protocol_keeps_no_test(parts):
    drawn = split([0] * 30, protocol="full", parts=parts)
    assert len(drawn["test"]) == 0
    assert len(drawn["held_out"]) == 3
    assert len(drawn["train"]) == 27


@given(label=st.lists(st.integers(-1, 3), max_size=80), seed=st.integers(0, 2**32), fraction=st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_a_fraction_of_labels_is_that_of_each_class_and_at_least_one(label, seed, fraction):
    label = np.array(label, dtype=np.int64)
    index = draw_labelled(label, "abcd", Labelled(fraction=fraction), seed=seed)
    assert (np.diff(index) > 0).all()
    for name in range(4):
        there = (label == name).sum()
        assert (label[index] == name).sum() == (max(1, int(fraction * there + 0.5)) if there else 0)
    assert not (label[index] == -1).any()


def test_labels_per_class_are_balanced_and_nested():
    label = np.array([0] * 50 + [1] * 7 + [-1] * 5 + [2] * 20)
    few, more = (draw_labelled(label, "abc", Labelled(per_class=n), seed=3) for n in (2, 7))
    assert np.bincount(label[few]).tolist() == [2, 2, 2]
    assert np.bincount(label[more]).tolist() == [7, 7, 7]
    assert set(few) < set(more)
    assert len(draw_labelled(label, "abc", Labelled(per_class=0), seed=3)) == 0


@given(
    label=st.lists(st.integers(0, 3), min_size=1, max_size=80),
    fewer=st.integers(0, 5),
    seed=st.integers(0, 2**32),
    fold=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_in_each_fold_more_labels_contain_the_fewer(label, fewer, seed, fold):
    label = np.array(label)
    most = np.bincount(label, minlength=4).min()
    few, more = (
        draw_labelled(label, "abcd", Labelled(per_class=n, fold=fold), seed=seed) for n in (min(fewer, most), most)
    )
    assert set(few) <= set(more)
    half, whole = (draw_labelled(label, "abcd", Labelled(fraction=f, fold=fold), seed=seed) for f in (0.5, 0.8))
    assert set(half) <= set(whole)


def test_seeds_label_different_images():
    label = np.arange(60) % 3
    drawn = {tuple(draw_labelled(label, "abc", Labelled(per_class=4), seed=seed)) for seed in range(4)}
    assert len(drawn) == 4


def test_folds_label_different_images_and_fold_0_is_the_draw_of_the_seed():
    label = np.arange(60) % 3
    folds = [draw_labelled(label, "abc", Labelled(per_class=4, fold=fold), seed=0).tolist() for fold in range(5)]
    assert len({tuple(fold) for fold in folds}) == 5
    assert all(np.bincount(label[fold]).tolist() == [4, 4, 4] for fold in folds)
    assert folds[0] == draw_labelled(label, "abc", Labelled(per_class=4), seed=0).tolist()
    # Not the draws of other seeds under another name.
    seeds = [draw_labelled(label, "abc", Labelled(per_class=4), seed=seed).tolist() for seed in range(5)]
    assert not any(fold in seeds for fold in folds[1:])


def test_without_a_wish_every_known_label_is_used():
    assert draw_labelled(np.array([-1, 0, 1, -1, 0]), "ab", None, seed=0).tolist() == [1, 2, 4]


@pytest.mark.parametrize("labelled", [None, Labelled(per_class=4), Labelled(fraction=0.5)])
def test_without_labels_none_is_used(labelled):
    assert draw_labelled(np.full(9, -1), (), labelled, seed=0).tolist() == []


def test_a_class_with_too_few_images_is_named():
    with pytest.raises(UserError, match=r"per_class: 4 is more than the 3 .* of class 'cat', and 1 more classes"):
        draw_labelled(np.array([0] * 9 + [1] * 3), ("ant", "cat", "dog"), Labelled(per_class=4), seed=0)


@pytest.mark.parametrize("given", [{}, {"per_class": 4, "fraction": 0.1}])
def test_exactly_one_way_of_saying_how_many_labels(given):
    with pytest.raises(UserError, match="exactly one"):
        Labelled(**given)


def test_protocol_names():
    assert protocol_named("full") == "full"
    with pytest.raises(UserError, match="protocol: unknown value 'ful'; did you mean 'full'"):
        protocol_named("ful")


def test_labels_of_ones_own_can_all_be_kept_for_training():
    drawn = split([-1] * 60 + [0, 0, 1, 2], draw="unlabelled")
    assert set(range(60, 64)) <= set(drawn["train"].tolist())
    assert len(drawn["test"]) == 15


@given(labels=LABELS.filter(len), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_blind_draw_does_not_move_when_labels_come(labels, seed):
    blind = split(labels, draw="blind", seed=seed)
    unlabelled = split([-1] * len(labels), seed=seed)
    assert all(np.array_equal(blind[name], unlabelled[name]) for name in blind)
