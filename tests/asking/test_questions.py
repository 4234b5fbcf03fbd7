from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.asking.herding import uncertainty
from sslpipe.asking.questions import (
    COVERS,
    DOUBTFUL,
    RANDOM,
    TYPICAL,
    UNCERTAIN,
    Known,
    Pool,
    counts,
    questions,
    random_order,
)
from sslpipe.neighbors.search import nearest_neighbors


def known(labels=0, classes=4, held_out=30, groups=True, classifier=False, doubtful=0, seed=0, count=120):
    rng = np.random.default_rng(seed)
    group = np.arange(count) % 4
    index, cosine = nearest_neighbors(np.eye(8)[group] + rng.normal(0, 0.2, (count, 8)), k=12)
    probability = rng.dirichlet(np.ones(max(classes, 2)), count) if classifier else None
    return Known(
        pool=Pool(neighbors=index, cosine=cosine, group=group if groups else None),
        index=np.sort(rng.permutation(count)[:labels]),
        classes=classes if labels else 0,
        probability=probability,
        doubtful=[(int(image), "check") for image in rng.permutation(count)[:doubtful]],
        held_out=rng.random(held_out) < 0.8,
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    labels=st.sampled_from([0, 3, 30]),
    groups=st.booleans(),
    classifier=st.booleans(),
    doubtful=st.sampled_from([0, 2, 20]),
    budget=st.integers(1, 40),
)
def test_a_smaller_budget_is_a_beginning(seed, labels, groups, classifier, doubtful, budget):
    given = known(labels, groups=groups, classifier=classifier, doubtful=doubtful, seed=seed)
    whole = questions(given, 50, seed=seed)
    assert questions(given, budget, seed=seed) == whole[:budget]
    train = [each.image for each in whole if not each.held_out and each.kind != DOUBTFUL]
    assert len(set(train)) == len(train)
    assert not set(train) & set(given.index.tolist())
    assert all(given.held_out[each.image] for each in whole if each.held_out)
    found = counts(whole)
    assert found[RANDOM] == 5
    assert found.get(DOUBTFUL, 0) == min(doubtful, 5)
    assert [place for place, each in enumerate(whole, 1) if each.kind == RANDOM] == [10, 20, 30, 40, 50]
    assert sum(found.values()) == 50
    assert (UNCERTAIN in found) == (classifier and labels == 30)
    assert (COVERS in found) == (not (classifier and labels == 30))


def test_each_group_without_a_label_comes_first():
    given = known()
    first = questions(given, 6, seed=0)
    assert [each.kind for each in first] == [TYPICAL] * 4 + [COVERS] * 2
    assert sorted(given.pool.group[each.image] for each in first[:4]) == [0, 1, 2, 3]
    assert first[0].reason == f"most typical of group {given.pool.group[first[0].image]}, which has no label"
    names = replace(given, pool=replace(given.pool, group_names=("a", "b", "c", "d")))
    named = questions(names, 1, seed=0)
    assert named[0].reason == f"most typical of group {'abcd'[given.pool.group[first[0].image]]}, which has no label"
    covered = known(labels=1)
    later = questions(covered, 6, seed=0)
    assert [each.kind for each in later] == [TYPICAL] * 3 + [COVERS] * 3
    assert covered.pool.group[covered.index[0]] not in [covered.pool.group[each.image] for each in later[:3]]


def test_uncertain_images_are_asked_for_from_five_labels_a_class_on():
    assert not known(labels=19, classifier=True).weighs
    assert known(labels=20, classifier=True).weighs
    assert not known(labels=20).weighs
    given = known(labels=40, classifier=True, groups=False)
    sure = np.tile([1.0, 0.0, 0.0, 0.0], (120, 1))
    sure[30:40] = 0.25  # only these are uncertain
    given = replace(given, probability=sure)
    near = {
        *range(30, 40),
        *given.pool.neighbors[30:40].ravel(),
        *np.flatnonzero(np.isin(given.pool.neighbors, range(30, 40)).any(1)),
    }
    asked = [each.image for each in questions(given, 5, seed=0) if each.kind == UNCERTAIN]
    assert asked
    assert set(asked) <= near
    assert (uncertainty(sure) > 0).sum() == 10


def test_the_random_images_go_on_as_if_they_were_drawn_at_once():
    free = np.ones(40, bool)
    order = random_order(free, seed=3)
    assert sorted(order.tolist()) == list(range(40))
    free[order[:7]] = False
    np.testing.assert_array_equal(random_order(free, seed=3), order[7:])
    assert not np.array_equal(random_order(free, seed=4), order[7:])
    firsts = [int(random_order(np.ones(10, bool), seed=seed)[0]) for seed in range(500)]
    assert np.bincount(firsts, minlength=10) == pytest.approx(np.full(10, 50), abs=30)


def test_no_more_questions_than_images_that_add_something():
    given = known(count=24, held_out=0)
    asked = questions(given, 100, seed=0)
    assert len(asked) <= 24
    assert RANDOM not in counts(asked)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    labels=st.sampled_from([0, 3, 30]),
    groups=st.booleans(),
    doubtful=st.sampled_from([0, 2]),
    parts=st.lists(st.integers(1, 12), min_size=3, max_size=6),
)
def test_questions_that_are_answered_go_on_as_if_they_were_asked_at_once(seed, labels, groups, doubtful, parts):
    given = known(labels, groups=groups, seed=seed)
    given = replace(given, doubtful=[(int(image), "check") for image in given.index[:doubtful]])
    whole, found = questions(given, sum(parts), seed=seed), []
    for count in parts:
        found += questions(given, count, seed=seed, place=len(found))
        held_out = given.held_out.copy()
        held_out[[each.image for each in found if each.held_out]] = False
        given = replace(
            given,
            index=np.union1d(given.index, [each.image for each in found if not each.held_out]).astype(np.int64),
            doubtful=[each for each in given.doubtful if each[0] not in {e.image for e in found if e.kind == DOUBTFUL}],
            held_out=held_out,
        )
    assert found == whole


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), labels=st.sampled_from([0, 5]), share=st.floats(0, 0.9))
def test_skipped_images_are_not_asked_for_and_count_as_unlabelled(seed, labels, share):
    given = known(labels, seed=seed, held_out=0)
    rng = np.random.default_rng(seed)
    skipped = rng.random(120) < share
    skipped[given.index] = False
    asked = questions(replace(given, skipped=skipped), 100, seed=seed)
    assert not skipped[[each.image for each in asked]].any()
    pool, labelled = given.pool, set(given.index.tolist())
    for group in range(4):
        inside = [i for i in range(120) if pool.group[i] == group]
        free = [i for i in inside if not skipped[i] and i not in labelled]
        typical = [each.image for each in asked if each.kind == TYPICAL and pool.group[each.image] == group]
        expected = [max(free, key=lambda i: (pool.typical[i], -i))] if free and not labelled & set(inside) else []
        assert typical == expected
    none = questions(replace(given, skipped=np.zeros(120, bool)), 100, seed=seed)
    assert none == questions(given, 100, seed=seed)


def test_an_image_like_a_skipped_one_is_asked_for_as_late_as_one_like_a_labelled_image():
    given = known(held_out=0, groups=False)
    first, second, *_ = questions(given, 2, seed=0)
    skipped = np.zeros(120, bool)
    skipped[first.image] = True
    assert questions(replace(given, skipped=skipped), 1, seed=0)[0].image == second.image
