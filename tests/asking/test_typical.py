import numpy as np
import pytest
from scipy.spatial.distance import cdist

from sslpipe.asking.typical import most_typical, nearest_to_centres, typicality
from sslpipe.neighbors.search import nearest_neighbors


def clouds(sizes, seed=0, dimension=6, noise=0.2):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.eye(dimension)[group] + rng.normal(0, noise, (len(group), dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), group


def test_typicality_by_a_plain_loop():
    unit, group = clouds([12, 9, 7])
    index, cosine = nearest_neighbors(unit, k=5)
    distance = cdist(unit, unit)
    for of_group in (None, group):
        found = typicality(index, cosine, of_group)
        for image in range(len(unit)):
            own = [other for other in index[image] if of_group is None or group[other] == group[image]]
            mean = np.mean([distance[image, other] for other in own]) if own else np.inf
            assert found[image] == pytest.approx(len(own) / 5 / mean, rel=1e-4)


def test_an_image_without_a_neighbour_in_its_group_is_not_typical():
    index, cosine = np.array([[1], [0], [0]]), np.array([[0.9], [0.9], [0.8]])
    assert typicality(index, cosine, np.array([0, 0, 1]))[2] == 0


def test_the_most_typical_of_each_group_without_a_label_the_largest_first():
    unit, group = clouds([10, 20, 15, 3])
    typical = typicality(*nearest_neighbors(unit, k=4), group)
    labelled, allowed = np.zeros(48, bool), np.ones(48, bool)
    order = list(most_typical(group, typical, labelled, allowed))
    assert group[order].tolist() == [1, 2, 0, 3]
    for image in order:
        assert typical[image] == typical[group == group[image]].max()
    labelled[12] = True
    allowed[order[1]] = False
    allowed[group == 3] = False
    again = list(most_typical(group, typical, labelled, allowed))
    assert group[again].tolist() == [2, 0]
    assert again[0] != order[1]


def test_each_centre_has_an_image_of_its_own():
    unit, group = clouds([12, 9, 7])
    assert sorted(group[nearest_to_centres(unit, 3, seed=0)].tolist()) == [0, 1, 2]
    copies = np.concatenate([unit, unit])  # pairs at one place
    chosen = nearest_to_centres(copies, 50, seed=0)
    assert len(set(chosen.tolist())) == 50
    np.testing.assert_array_equal(chosen, nearest_to_centres(copies, 50, seed=0))


def test_against_scikit_activeml():
    """With groups as given, TypiClust of scikit-activeml asks first for the most typical image of the largest group."""
    skactiveml = pytest.importorskip("skactiveml.pool")
    unit, group = clouds([10, 24, 15])
    peer = skactiveml.TypiClust(random_state=0, k=4, cluster_algo_dict={"n_init": 5})
    found = peer.query(unit, np.full(len(unit), np.nan), batch_size=3)
    order = list(most_typical(group, _inside(unit, group, 4), np.zeros(49, bool), np.ones(49, bool)))
    assert found.tolist() == order


def _inside(unit, group, k):
    """Typicality over the k nearest images of the own group."""
    typical = np.zeros(len(unit))
    for each in np.unique(group):
        inside = np.flatnonzero(group == each)
        typical[inside] = typicality(*nearest_neighbors(unit[inside], k=k))
    return typical
