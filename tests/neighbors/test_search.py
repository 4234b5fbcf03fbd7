"""Neighbour search against a plain loop, and the properties that any search by cosine has."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sslpipe.io.errors import UserError
from sslpipe.neighbors import torch_search
from sslpipe.neighbors import unit_vectors as unit_vectors_module
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.search import nearest_in, nearest_neighbors
from sslpipe.neighbors.unit_vectors import unit_vectors

Floats = NDArray[np.float32]
FAISS = SearchSettings(backend="faiss")
IVF = SearchSettings(index="ivf")


def features(images: int, dimensions: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((images, dimensions)).astype(np.float32)


def grid(images: int, seed: int = 0) -> Floats:
    """Vectors of four ±1: many copies, and cosines that float32 holds exactly, so that ties are ties."""
    return np.random.default_rng(seed).choice(np.array([-1, 1], dtype=np.float32), size=(images, 4))


def neighbors_by_loops(queries: Floats, bank: Floats, k: int, exclude_self: bool) -> tuple[NDArray[np.int64], Floats]:
    """Each query against each image, sorted by falling cosine and then by index."""
    indices, similarities = [], []
    for i, query in enumerate(queries.astype(np.float64)):
        cosines = [float(query @ x / (np.linalg.norm(query) * np.linalg.norm(x))) for x in bank.astype(np.float64)]
        order = sorted((j for j in range(len(bank)) if not (exclude_self and i == j)), key=lambda j: (-cosines[j], j))
        indices.append(order[:k])
        similarities.append([cosines[j] for j in order[:k]])
    return np.array(indices), np.array(similarities, dtype=np.float32)


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@pytest.mark.parametrize(("images", "dimensions", "k"), [(2, 1, 1), (40, 8, 39), (150, 3, 5), (300, 16, 20)])
def test_neighbors_are_those_of_a_plain_loop(images: int, dimensions: int, k: int, backend: str) -> None:
    x = features(images, dimensions)
    indices, similarities = nearest_neighbors(x, k=k, settings=SearchSettings(backend=backend))  # type: ignore[arg-type]
    expected, cosines = neighbors_by_loops(x, x, k, exclude_self=True)
    assert indices.dtype == np.int64
    assert similarities.dtype == np.float32
    np.testing.assert_allclose(similarities, cosines, atol=1e-6)
    if dimensions > 1:  # in one dimension all cosines are ±1
        assert (indices == expected).all()


@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("tile", [32, 50, 64, 96, 128, 1000])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_tiles_change_nothing_and_equal_similarities_go_by_index(k: int, tile: int, exclude_self: bool) -> None:
    x = grid(200)
    unit = unit_vectors(x, torch.device("cpu"))
    done: list[int] = []
    indices, similarities = torch_search.search(
        unit, unit, k=k, exclude_self=exclude_self, advance=done.append, tile=tile
    )
    expected, cosines = neighbors_by_loops(x, x, k, exclude_self)
    assert (indices == expected).all()
    assert (similarities == cosines).all()
    assert sum(done) == 200
    rows = {32: 32, 50: 64, 64: 64, 96: 96, 128: 128, 1000: 224}[tile]  # even parts, of whole blocks
    assert len(done) == -(-200 // rows)


@pytest.mark.parametrize("tile", [32, 160, 10000])
def test_blocks_and_tiles_miss_no_neighbor(tile: int) -> None:
    # Sorted along a line, so that all neighbours of an image lie in one or two blocks.
    angle = np.sort(np.random.default_rng(1).uniform(0, np.pi, 700))
    unit = torch.tensor(np.stack([np.cos(angle), np.sin(angle)], axis=1), dtype=torch.float32)
    queries = unit[::7].contiguous()
    indices, similarities = torch_search.search(
        queries, unit, k=4, exclude_self=False, advance=lambda _: None, tile=tile
    )
    products = (queries.double() @ unit.double().T).numpy()
    np.testing.assert_allclose(similarities, -np.sort(-products, axis=1)[:, :4], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(products, indices, axis=1), similarities, atol=1e-6)


@pytest.mark.parametrize("images", [40, 700])
def test_copies_of_one_image_go_by_index(images: int) -> None:
    # All similarities are equal: tile after tile, nothing that comes later is taken.
    unit = torch.ones(images, 1)
    indices, _ = torch_search.search(unit, unit, k=3, exclude_self=True, advance=lambda _: None, tile=64)
    assert indices.tolist() == [[j for j in range(4) if j != i][:3] for i in range(images)]


@given(arrays(np.float32, 50, elements=st.floats(-2, 2, width=32)), st.integers(0, 2**32 - 51))
def test_keys_keep_values_and_indices_and_sort_by_both(values: Floats, first: int) -> None:
    indices = torch.arange(first, first + 50)
    keys = torch_search._pack(torch.from_numpy(values), indices)
    back, places = torch_search._unpack(keys.sort(descending=True).values)
    order = sorted(range(50), key=lambda i: (-values[i], i))
    assert (back.numpy() == values[order]).all()
    assert (places.numpy() - first == order).all()


vectors = st.integers(3, 30).flatmap(
    lambda n: arrays(np.float32, (n, 3), elements=st.sampled_from([-1.0, -0.5, 0.0, 0.25, 2.0]))
)


@given(vectors, st.data(), st.sampled_from([SearchSettings(), FAISS]))
@settings(deadline=None)
def test_self_is_never_there_and_similarities_fall(x: Floats, data: st.DataObject, how: SearchSettings) -> None:
    k = data.draw(st.integers(1, len(x) - 1))
    indices, similarities = nearest_neighbors(x, k=k, settings=how)
    assert (indices != np.arange(len(x))[:, None]).all()
    assert all(len(set(row)) == k for row in indices)
    assert (np.diff(similarities, axis=1) <= 0).all()
    assert np.abs(similarities).max() <= 1
    unit = unit_vectors(x, torch.device("cpu")).numpy()
    np.testing.assert_allclose(similarities, (unit[:, None] * unit[indices]).sum(axis=2), atol=1e-6)


@given(vectors, st.data())
@settings(deadline=None)
def test_the_length_of_vectors_does_not_matter(x: Floats, data: st.DataObject) -> None:
    scales = data.draw(arrays(np.float32, len(x), elements=st.sampled_from([2.0**-90, 0.125, 1.0, 3.0, 2.0**90])))
    scaled = nearest_neighbors(x * scales[:, None], k=2)[1]
    np.testing.assert_allclose(scaled, nearest_neighbors(x, k=2)[1], atol=1e-6)


@given(st.permutations(range(40)))
@settings(deadline=None, max_examples=20)
def test_the_order_of_images_does_not_matter(order: list[int]) -> None:
    x, places = features(40, 6), np.array(order)
    indices, similarities = nearest_neighbors(x, k=5)
    moved, moved_similarities = nearest_neighbors(x[places], k=5)
    assert (places[moved] == indices[places]).all()
    np.testing.assert_allclose(moved_similarities, similarities[places], atol=1e-6)


@pytest.mark.parametrize("how", [SearchSettings(), FAISS, SearchSettings(index="ivf", lists=1)])
def test_copies_of_an_image_are_neighbors_and_itself_is_not(how: SearchSettings) -> None:
    x = np.repeat(features(4, 8), 10, axis=0)
    indices, similarities = nearest_neighbors(x, k=3, settings=how)
    assert (indices // 10 == np.arange(40)[:, None] // 10).all()
    assert (indices != np.arange(40)[:, None]).all()
    np.testing.assert_allclose(similarities, 1, atol=1e-6)


def test_faiss_and_torch_agree() -> None:
    x = features(500, 32)
    indices, similarities = nearest_neighbors(x, k=10)
    faiss_indices, faiss_similarities = nearest_neighbors(x, k=10, settings=FAISS)
    assert (indices == faiss_indices).mean() > 0.999
    np.testing.assert_allclose(similarities, faiss_similarities, atol=1e-6)


@pytest.mark.parametrize("how", [SearchSettings(), FAISS])
def test_nearest_in_another_set(how: SearchSettings) -> None:
    queries, bank = features(30, 8), features(100, 8, seed=1)
    indices, similarities = nearest_in(queries, bank, k=7, settings=how)
    expected, cosines = neighbors_by_loops(queries, bank, 7, exclude_self=False)
    assert (indices == expected).all()
    np.testing.assert_allclose(similarities, cosines, atol=1e-6)
    # An image that is in the bank is found: nothing is excluded.
    assert (nearest_in(bank[:5], bank, k=100, settings=how)[0][:, 0] == np.arange(5)).all()


def test_ivf_finds_most_neighbors_among_groups() -> None:
    random = np.random.default_rng(0)
    x = np.repeat(features(20, 32), 100, axis=0) + random.standard_normal((2000, 32)).astype(np.float32)
    exact, _ = nearest_neighbors(x, k=10)
    approximate, similarities = nearest_neighbors(x, k=10, settings=IVF)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(exact, approximate, strict=True)]) > 0.9
    assert (approximate != np.arange(2000)[:, None]).all()
    assert (np.diff(similarities, axis=1) <= 0).all()
    all_lists = nearest_neighbors(x, k=10, settings=SearchSettings(index="ivf", lists=16, probes=16))[0]
    assert (all_lists == exact).mean() > 0.999


def test_ivf_compares_to_all_images_where_its_lists_hold_too_few() -> None:
    x = features(60, 4)
    indices, similarities = nearest_neighbors(x, k=30, settings=SearchSettings(index="ivf", lists=20, probes=1))
    expected, cosines = neighbors_by_loops(x, x, 30, exclude_self=True)
    assert (indices == expected).all()
    np.testing.assert_allclose(similarities, cosines, atol=1e-6)


@pytest.mark.parametrize("how", [SearchSettings(), FAISS])
def test_a_zero_vector_is_at_right_angles_to_all(how: SearchSettings) -> None:
    x = np.concatenate([np.zeros((1, 4), dtype=np.float32), features(5, 4)])
    indices, similarities = nearest_neighbors(x, k=5, settings=how)
    assert indices[0].tolist() == [1, 2, 3, 4, 5]
    assert (similarities[0] == 0).all()


def test_the_users_features_and_their_kind_are_left_alone() -> None:
    x = features(20, 4)
    x.flags.writeable = False  # as an array that is mapped from a file
    for kind in (torch.float32, torch.float64):
        tensor = torch.tensor(x, dtype=kind).requires_grad_()
        before = tensor.detach().clone()
        assert (nearest_neighbors(tensor, k=3)[0] == nearest_neighbors(x, k=3)[0]).all()
        assert torch.equal(tensor, before)


def test_the_precision_that_training_asked_for_is_not_used_and_not_lost() -> None:
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        with torch_search.full_precision():
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "bf16"
    finally:
        matmul.fp32_precision = before


@pytest.mark.parametrize("how", [SearchSettings(), FAISS])
def test_progress_counts_every_image_once(how: SearchSettings) -> None:
    done: list[int] = []
    nearest_neighbors(features(5000, 2), k=1, settings=how, advance=done.append)
    assert sum(done) == 5000
    assert len(done) > 1


@pytest.mark.parametrize(
    ("k", "how", "message"),
    [
        (5, SearchSettings(), "mine_neighbors.k: 5 is more than the 4 other images"),
        (0, SearchSettings(), "mine_neighbors.k: 0 found, expected at least 1"),
        (1, SearchSettings(backend="torch", index="ivf"), "mine_neighbors.backend: 'torch' has no index 'ivf'"),
        (1, SearchSettings(probes=2), "mine_neighbors.lists, probes: only index 'ivf' has them"),
        (1, SearchSettings(index="ivf", lists=6), "mine_neighbors.lists: 6 is more than the 5 images"),
        (1, SearchSettings(index="ivf", lists=2, probes=3), "mine_neighbors.probes: 3 is more than the 2 lists"),
    ],
)
def test_settings_that_do_not_fit_are_named(k: int, how: SearchSettings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        nearest_neighbors(features(5, 3), k=k, settings=how)


def test_nearest_in_may_take_all_images_and_no_more() -> None:
    x = features(5, 3)
    assert nearest_in(x, x, k=5)[0].shape == (5, 5)
    with pytest.raises(UserError, match="6 is more than the 5 images"):
        nearest_in(x, x, k=6)
    with pytest.raises(ValueError, match="queries: 2 dimensions found, expected 3"):
        nearest_in(x[:, :2], x, k=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    x = features(5, 3)
    x[2, 1] = x[4, 0] = bad
    with pytest.raises(ValueError, match="NaN or infinity in 2 of 5 vectors, the first at 2"):
        nearest_neighbors(x, k=1)


@pytest.mark.parametrize("shape", [(5,), (0, 3), (3, 0), (2, 2, 2)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="features: shape"):
        nearest_neighbors(np.zeros(shape, dtype=np.float32), k=1)


def test_without_faiss_only_those_who_ask_for_it_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert nearest_neighbors(features(5, 3), k=1)[0].shape == (5, 1)
    for how in (FAISS, IVF):
        with pytest.raises(UserError, match="faiss is not installed; install faiss-gpu"):
            nearest_neighbors(features(5, 3), k=1, settings=how)


@pytest.mark.parametrize("chosen", [SearchSettings(), SearchSettings(index="ivf", lists=4, probes=4)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_many_vectors_are_scaled_as_they_are_used_with_the_same_result(chosen, dtype, tmp_path, monkeypatch):
    features = np.random.default_rng(3).normal(size=(300, 24)).astype(dtype)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    whole = nearest_neighbors(features, k=7, settings=chosen), nearest_in(features[:40], features, k=5)
    monkeypatch.setitem(unit_vectors_module.RESIDENT, "cpu", 0)
    monkeypatch.setitem(torch_search.TILE, "cpu", 64)
    lazy = nearest_neighbors(mapped, k=7, settings=chosen), nearest_in(mapped[:40], mapped, k=5)
    approximately = chosen.index == "ivf"  # their lists hold float16
    for (indices, similarities), (expected, values) in zip(lazy, whole, strict=True):
        assert np.allclose(similarities, values, atol=1e-3 if approximately else 1e-6)
        assert (indices == expected).mean() > (0.97 if approximately else 0.9999)
        approximately = False


def test_vectors_that_are_not_finite_are_found_without_a_copy(monkeypatch):
    monkeypatch.setitem(unit_vectors_module.RESIDENT, "cpu", 0)
    monkeypatch.setattr(unit_vectors_module, "CHECKED", 60)
    features = np.ones((50, 20), np.float16)
    features[[7, 31], 3] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity in 2 of 50 vectors, the first at 7"):
        nearest_neighbors(features, k=3)
