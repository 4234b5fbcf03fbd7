import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.metrics.modularity import neighbor_modularity


@st.composite
def graphs(draw):
    count, k, kinds = draw(st.integers(2, 30)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    return random.integers(kinds, size=count), random.integers(count, size=(count, k))


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_agrees_with_loops(graph):
    groups, neighbors = graph
    pairs = same = 0
    for i, row in enumerate(neighbors):
        for j in row:
            pairs += 1
            same += groups[i] == groups[j]
    chance = sum((sum(g == each for g in groups) / len(groups)) ** 2 for each in set(groups.tolist()))
    assert neighbor_modularity(groups, neighbors) == pytest.approx(same / pairs - chance)


@settings(max_examples=50, deadline=None)
@given(graphs(), st.randoms())
def test_names_of_groups_and_order_of_images_do_not_matter(graph, random):
    groups, neighbors = graph
    value = neighbor_modularity(groups, neighbors)
    names = list(range(10))
    random.shuffle(names)
    assert neighbor_modularity(np.array(names)[groups], neighbors) == pytest.approx(value)
    order = list(range(len(groups)))
    random.shuffle(order)
    place = np.argsort(order)
    assert neighbor_modularity(groups[order], place[neighbors[order]]) == pytest.approx(value)


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_one_group_has_none_and_none_is_above_its_bound(graph):
    groups, neighbors = graph
    assert neighbor_modularity(np.zeros_like(groups), neighbors) == 0
    assert neighbor_modularity(groups, neighbors) <= 1 - 1 / len(np.unique(groups)) + 1e-9


def test_groups_that_are_the_graphs_parts_reach_the_bound():
    groups = np.arange(20) % 4
    neighbors = np.stack([np.flatnonzero((groups == g) & (np.arange(20) != i)) for i, g in enumerate(groups)])
    assert neighbor_modularity(groups, neighbors) == pytest.approx(0.75)
    assert neighbor_modularity(np.arange(20), neighbors) == pytest.approx(-0.05)


@pytest.mark.parametrize(
    ("groups", "neighbors", "found"),
    [
        ([0, 1], [[1], [2]], "outside 0 to 1"),
        ([0, 1], [[1]], "expected \\[2, k\\]"),
        ([0, -1], [[1], [0]], "from 0"),
        ([], np.zeros((0, 2), int), "expected \\[N\\]"),
    ],
)
def test_wrong_input_is_refused(groups, neighbors, found):
    with pytest.raises(ValueError, match=found):
        neighbor_modularity(np.array(groups, int), np.array(neighbors))
