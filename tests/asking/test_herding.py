from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslpipe.asking.herding import coverage, herding, sparse_kernel, uncertainty
from sslpipe.neighbors.search import nearest_neighbors


def points(count, seed, dimension=5):
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def plain_gains(unit, labelled, weight, sigma):
    """What each image adds, as it stands in MaxHerding, on the whole kernel."""
    x = unit.astype(np.float64)
    kernel = np.exp(-((x[:, None] - x[None]) ** 2).sum(axis=2) / sigma**2)
    gains = []
    for image in range(len(x)):
        gain = 0.0
        for i in range(len(x)):
            covered = max((kernel[i, known] for known in labelled), default=0.0)
            gain += weight[i] * max(0.0, kernel[i, image] - covered)
        gains.append(gain)
    return np.array(gains)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(4, 16), seed=st.integers(0, 10**6), sigma=st.sampled_from([0.3, 1.0, 2.0]), weighted=st.booleans()
)
def test_with_all_neighbours_each_next_image_is_that_of_the_plain_loop(count, seed, sigma, weighted):
    unit = points(count, seed)
    rng = np.random.default_rng(seed)
    weight = rng.random(count) if weighted else np.ones(count)
    labelled = rng.permutation(count)[:2]
    allowed = rng.random(count) < 0.8
    allowed[labelled] = False
    kernel = sparse_kernel(*nearest_neighbors(unit, k=count - 1), sigma=sigma)
    order = list(islice(herding(kernel, labelled, weight=weight if weighted else None, allowed=allowed), 5))
    assert len(set(order)) == len(order) == min(5, int(allowed.sum()))
    known = labelled.tolist()
    for image in order:  # among gains that rounding makes equal, any may be first
        gains = plain_gains(unit, known, weight, sigma)
        free = [other for other in np.flatnonzero(allowed) if other not in known]
        assert image in free
        assert gains[image] >= gains[free].max() - 1e-5
        known.append(image)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12))
def test_every_next_image_adds_most_on_a_sparse_kernel(seed, k):
    """Against sums over the sparse matrix made whole; gains fall, and an image is chosen once."""
    index, cosine = nearest_neighbors(points(40, seed), k=k)
    kernel = sparse_kernel(index, cosine)
    whole = np.zeros((40, 40))
    for image in range(40):
        near, value = kernel.row(image)
        whole[image, near] = value
        assert image in near
        assert (np.diff(near) > 0).all()
    assert (whole == whole.T).all()
    for image in range(40):  # nothing but pairs of neighbours
        linked = {*index[image], image, *np.flatnonzero((index == image).any(axis=1))}
        assert set(np.flatnonzero(whole[image])) == linked
    covered, gains, order = np.zeros(40), [], []
    for image in herding(kernel):
        gain = np.maximum(whole - covered, 0).sum(axis=1)
        gain[order] = -1
        assert gain[image] == pytest.approx(gain.max(), abs=1e-9)
        gains.append(gain[image])
        order.append(image)
        covered = np.maximum(covered, whole[image])
        np.testing.assert_allclose(coverage(kernel, order), covered)
    assert len(set(order)) == len(order)
    assert (np.diff(gains) <= 1e-9).all()


def test_copies_of_a_labelled_image_are_never_asked_for():
    unit = points(12, 0)[[0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]]
    kernel = sparse_kernel(*nearest_neighbors(unit, k=11))
    order = list(herding(kernel, [1]))
    assert not {0, 1, 2} & {*order}
    assert len({3, 4} & {*order}) == 1


def test_the_order_goes_on_from_the_labels_as_if_it_had_chosen_them():
    kernel = sparse_kernel(*nearest_neighbors(points(60, 1), k=10))
    order = list(islice(herding(kernel), 20))
    assert list(islice(herding(kernel, order[:8]), 12)) == order[8:]


def test_uncertain_images_are_covered_first():
    unit = points(80, 2, dimension=8)
    kernel = sparse_kernel(*nearest_neighbors(unit, k=10))
    weight = np.zeros(80)
    weight[:20] = 1
    first = next(iter(herding(kernel, weight=weight)))
    assert set(kernel.row(first)[0]) & set(range(20))
    assert next(iter(herding(kernel, weight=np.zeros(80))), None) is None


def test_the_margin():
    probability = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.5, 0.3]], dtype=np.float32)
    np.testing.assert_allclose(uncertainty(probability), [1.0, 0.0, 0.8], atol=1e-6)


def test_sigma_is_positive():
    with pytest.raises(ValueError, match="sigma: 0 found"):
        sparse_kernel(np.array([[1], [0]]), np.ones((2, 1)), sigma=0)


def test_against_scikit_activeml():
    skactiveml = pytest.importorskip("skactiveml.pool")
    unit = points(60, 3, dimension=6).astype(np.float64)
    order = list(islice(herding(sparse_kernel(*nearest_neighbors(unit, k=59))), 12))
    # scikit-learn's rbf kernel is exp(−γ ‖x − y‖²), so γ = 1 / σ².
    peer = skactiveml.MaxHerding(normalize_samples=True, metric="rbf", metric_dict={"gamma": 1.0}, random_state=0)
    label = np.full(60, np.nan)
    found = []
    for _ in range(12):
        found.append(int(peer.query(unit, label, batch_size=1)[0]))
        label[found[-1]] = 0
    assert order == found
