from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import is_monotonic, is_valid_linkage, linkage

from sslpipe.metrics.merge_tree import group_means, homes, modularity_tree, neighbor_pairs, ward_tree
from sslpipe.metrics.modularity import neighbor_modularity

SEEDS = st.integers(0, 10_000)


def levels(tree):
    """The sets of leaves of all nodes, before each merge and at the end."""
    count = len(tree) + 1
    sets = {leaf: frozenset([leaf]) for leaf in range(count)}
    yield dict(sets)
    for made, (a, b, _, leaves) in enumerate(tree):
        sets[count + made] = sets.pop(int(a)) | sets.pop(int(b))
        assert leaves == len(sets[count + made])
        yield dict(sets)


def draw_groups(rng, images, groups, empty=()):
    """A group of each image; all groups have images but the empty ones."""
    used = [group for group in range(groups) if group not in empty]
    return rng.permutation([*used, *rng.choice(used, images - len(used))])


def own_home(size):
    return np.arange(len(size))


def ward_cost(points, sizes, a, b):
    """n_a n_b / (n_a + n_b) |m_a - m_b|² of two sets of groups, by loops over their groups."""
    count, mean = [0, 0], [0, 0]
    for place, leaves in enumerate((a, b)):
        count[place] = sum(sizes[leaf] for leaf in leaves)
        mean[place] = sum(sizes[leaf] * points[leaf] for leaf in leaves) / count[place]
    return count[0] * count[1] / sum(count) * float(((mean[0] - mean[1]) ** 2).sum())


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(2, 12))
def test_ward_agrees_with_loops_over_all_pairs(seed, count):
    rng = np.random.default_rng(seed)
    points, sizes = rng.normal(size=(count, 3)), rng.integers(1, 40, count)
    tree = ward_tree(points, sizes, own_home(sizes))
    assert is_valid_linkage(tree)
    assert is_monotonic(tree)
    for row, nodes in zip(tree, levels(tree), strict=False):
        costs = {pair: ward_cost(points, sizes, *(nodes[i] for i in pair)) for pair in combinations(sorted(nodes), 2)}
        assert min(costs, key=costs.get) == (row[0], row[1])
        assert row[2] == pytest.approx(np.sqrt(2 * min(costs.values())))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 8))
def test_ward_is_the_upper_part_of_scipy_s_tree_of_all_images(seed, count):
    rng = np.random.default_rng(seed)
    points, sizes = rng.normal(size=(count, 2)), rng.integers(1, 6, count)
    of_images = linkage(np.repeat(points, sizes, axis=0), "ward")
    tree = ward_tree(points, sizes, own_home(sizes))
    np.testing.assert_allclose(tree[:, 2], of_images[len(of_images) - len(tree) :, 2], atol=1e-7)
    order = np.repeat(np.arange(count), sizes)
    theirs = [{frozenset(order[list(each)]) for each in nodes.values()} for nodes in levels(of_images)]
    for nodes in levels(tree):
        assert set(nodes.values()) in theirs


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(2, 10))
def test_each_merge_leaves_the_highest_neighbour_modularity(seed, count):
    rng = np.random.default_rng(seed)
    group = draw_groups(rng, 60, count)
    neighbors = rng.integers(60, size=(60, 4))
    size = np.bincount(group, minlength=count)
    tree = modularity_tree(neighbor_pairs(group, neighbors, count), size, own_home(size))
    assert is_valid_linkage(tree)
    assert is_monotonic(tree)

    def modularity(sets):
        number = {leaf: i for i, leaves in enumerate(sets) for leaf in leaves}
        return neighbor_modularity(np.array([number[each] for each in group]), neighbors)

    before, first, height = modularity([{leaf} for leaf in range(count)]), None, 0.0
    steps = list(levels(tree))
    for row, nodes, after in zip(tree, steps, steps[1:], strict=False):
        values = [
            modularity(
                [*(leaves for node, leaves in nodes.items() if node not in pair), nodes[pair[0]] | nodes[pair[1]]]
            )
            for pair in combinations(nodes, 2)
        ]
        found = modularity(after.values())
        assert found == pytest.approx(max(values))
        first = found - before if first is None else first
        height = max(height, first - (found - before))
        assert row[2] == pytest.approx(height)
        before = found


def tree_of(by, seed, count, empty=(), order=None):
    """A tree of random groups, which are numbered anew by `order`, and their sizes."""
    rng = np.random.default_rng(seed)
    group = draw_groups(rng, 200, count, empty)
    rows, neighbors = rng.normal(size=(200, 5)), rng.integers(200, size=(200, 7))
    logits = rng.normal(size=(200, count)).astype(np.float32)
    logits[np.arange(200), group] = logits.max() + 1
    if order is not None:
        place = np.argsort(order)
        group, logits = place[group], logits[:, order]
    size, home = np.bincount(group, minlength=count), homes(group, logits)
    if by == "means":
        return ward_tree(group_means(group, rows, count), size, home), size, group, logits
    # Fractions of pairs, so that no two merges are equally good.
    pairs = neighbor_pairs(group, neighbors, count) + (np.add.outer(*[group_means(group, rows, count)[:, 0]] * 2) / 1e3)
    return modularity_tree(pairs, size, home), size, group, logits


@pytest.mark.parametrize("by", ["means", "neighbors"])
@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 14), st.randoms())
def test_numbers_of_groups_do_not_matter(by, seed, count, random):
    order = list(range(count))
    random.shuffle(order)
    empty = range(max(count - 3, 1), count)
    tree, renamed = (tree_of(by, seed, count, empty, each)[0] for each in (None, order))
    np.testing.assert_allclose(renamed[:, 2], tree[:, 2], rtol=1e-6, atol=1e-12)
    theirs = list(levels(renamed))
    for step, nodes in enumerate(levels(tree)):
        if step >= len(empty):  # empty groups are merged in the order of their numbers
            assert {frozenset(order.index(leaf) for leaf in each) for each in nodes.values()} == set(
                theirs[step].values()
            )


@pytest.mark.parametrize("by", ["means", "neighbors"])
@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(3, 14), st.data())
def test_groups_without_images_are_merged_first_with_the_group_that_tends_to_them(by, seed, count, data):
    empty = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    tree, size, group, logits = tree_of(by, seed, count, empty)
    assert np.isfinite(tree).all()
    assert is_valid_linkage(tree)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = [{leaf} for leaf in range(count) if size[leaf]]
    for each in sorted(empty):
        total = {
            used: sum(probability[i, each] for i in range(200) if group[i] == used) for used in np.flatnonzero(size)
        }
        home = max(total, key=total.get)
        next(leaves for leaves in expected if home in leaves).add(each)
    nodes = list(levels(tree))[len(empty)]
    assert set(nodes.values()) == set(map(frozenset, expected))
    assert (tree[: len(empty), 2] == 0).all()


def test_one_group_with_images_takes_all_others():
    size = np.array([0, 7, 0])
    home = homes(np.ones(7, int), np.tile(np.array([0.0, 1.0, 0.0], np.float32), (7, 1)))
    assert home.tolist() == [1, 1, 1]
    for tree in (ward_tree(np.zeros((3, 2)), size, home), modularity_tree(np.diag([0, 14.0, 0]), size, home)):
        assert tree.tolist() == [[0, 1, 0, 2], [2, 3, 0, 3]]


def test_groups_without_a_pair_between_them_are_merged_by_their_sizes():
    tree = modularity_tree(np.diag([20.0, 12.0, 4.0]), np.array([10, 6, 2]), np.arange(3))
    assert tree[:, :2].tolist() == [[1, 2], [0, 3]]


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 6))
def test_means_and_pairs_agree_with_loops(seed, count):
    rng = np.random.default_rng(seed)
    group, rows = rng.integers(count, size=30), rng.normal(size=(30, 4)).astype(np.float16)
    neighbors = rng.integers(30, size=(30, 3))
    means, pairs = group_means(group, rows, count + 1), np.zeros((count + 1, count + 1))
    for each in range(count + 1):
        units = [row / np.linalg.norm(row) for row, of in zip(rows.astype(float), group, strict=True) if of == each]
        np.testing.assert_allclose(means[each], np.mean(units, axis=0) if units else np.zeros(4), atol=1e-6)
    for image, near in enumerate(neighbors):
        for other in near:
            pairs[group[image], group[other]] += 1
            pairs[group[other], group[image]] += 1
    np.testing.assert_array_equal(neighbor_pairs(group, neighbors, count + 1), pairs)
