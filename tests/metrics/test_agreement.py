"""Images whose neighbours are in the same group, against plain loops, and what must hold for any groups."""

from math import ceil

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.metrics.agreement import agreeing, reliable_images

SHARES = st.sampled_from([0.0, 0.15, 0.3, 0.55, 0.7, 0.95, 1.0])
TAKEN = st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0])
SEEDS = st.integers(0, 10**6)


def drawn(seed, k=5, groups=3, images=40):
    """Groups, confidences with equal ones among them, and neighbours, which are mostly in the image's group."""
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, images)
    neighbors = np.empty((images, k), np.int64)
    for image in range(images):
        same = np.flatnonzero(group == group[image])
        pool = same if random.random() < 0.7 else np.arange(images)
        neighbors[image] = random.choice(pool, k)
    return group, random.integers(0, 8, images) / 8, neighbors


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.15, 0.3, 0.55, 0.7, 1.0]), st.sampled_from([1, 5, 10, 20]))
def test_images_that_agree_with_their_neighbours_are_those_of_a_plain_loop(seed, share, k):
    random = np.random.default_rng(seed)
    groups, neighbors = random.integers(0, 3, 40), random.integers(0, 40, (40, k))
    expected = []
    for image, row in enumerate(neighbors):
        same = sum(groups[other] == groups[image] for other in row)
        expected.append(100 * same >= round(100 * share) * k)
    assert agreeing(groups, neighbors, share).tolist() == expected


@given(SEEDS, SHARES, TAKEN, st.sampled_from([1, 4, 20]))
def test_reliable_images_are_those_of_a_plain_loop(seed, agreement, share, k):
    group, confidence, neighbors = drawn(seed, k)
    expected = []
    for number in range(3):
        inside = [image for image in range(40) if group[image] == number]
        reliable = []
        for image in inside:
            same = sum(group[other] == number for other in neighbors[image])
            if 100 * same >= round(100 * agreement) * k:
                reliable.append(image)
        reliable.sort(key=lambda image: (-confidence[image], image))
        expected += reliable[: ceil(round(100 * share) * len(inside) / 100)]
    found = reliable_images(group, confidence, neighbors, agreement=agreement, share=share)
    assert found.tolist() == sorted(expected)


@given(SEEDS, SHARES, SHARES)
def test_a_larger_agreement_keeps_fewer_images(seed, first, second):
    group, confidence, neighbors = drawn(seed)
    low, high = sorted([first, second])
    kept = [
        set(reliable_images(group, confidence, neighbors, agreement=each, share=1.0).tolist()) for each in (low, high)
    ]
    assert kept[1] <= kept[0]


@given(SEEDS, SHARES, TAKEN, TAKEN)
def test_a_larger_share_keeps_more_images(seed, agreement, first, second):
    group, confidence, neighbors = drawn(seed)
    low, high = sorted([first, second])
    kept = [
        set(reliable_images(group, confidence, neighbors, agreement=agreement, share=each).tolist())
        for each in (low, high)
    ]
    assert kept[0] <= kept[1]


@given(SEEDS, SHARES, TAKEN)
def test_the_numbers_of_the_groups_have_no_meaning(seed, agreement, share):
    group, confidence, neighbors = drawn(seed)
    other = np.random.default_rng(seed + 1).permutation(3)[group]
    found = [
        reliable_images(each, confidence, neighbors, agreement=agreement, share=share).tolist()
        for each in (group, other)
    ]
    assert found[0] == found[1]


@given(SEEDS, SHARES, TAKEN)
def test_the_order_of_the_images_changes_only_their_numbers(seed, agreement, share):
    group, _, neighbors = drawn(seed)
    confidence = np.random.default_rng(seed).permutation(40) / 40  # no ties, which the order decides
    order = np.random.default_rng(seed + 1).permutation(40)
    place = np.argsort(order)
    found = reliable_images(group, confidence, neighbors, agreement=agreement, share=share)
    moved = reliable_images(group[order], confidence[order], place[neighbors[order]], agreement=agreement, share=share)
    assert sorted(order[moved].tolist()) == found.tolist()


def test_with_neighbours_in_other_groups_alone_no_image_is_reliable():
    group = np.array([0, 1, 0, 1])
    neighbors = np.array([[1], [0], [3], [2]])
    assert not len(reliable_images(group, np.ones(4), neighbors, agreement=0.5, share=1.0))
