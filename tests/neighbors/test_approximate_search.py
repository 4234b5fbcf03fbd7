"""Approximate indices: the share of exact neighbours that they reach, what they cost, and a search that was killed."""

import numpy as np
import pytest
import torch

from sslpipe.io import saving
from sslpipe.neighbors import faiss_index, faiss_search, torch_search
from sslpipe.neighbors import unit_vectors as unit_vectors_module
from sslpipe.neighbors.faiss_index import compared_queries, cost, least_effort
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.saved_search import SavedSearch
from sslpipe.neighbors.search import nearest_neighbors

INDICES = ("ivf", "hnsw")


def points(images, dimensions=16):
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((40, dimensions))
    return (centre[rng.integers(40, size=images)] + rng.standard_normal((images, dimensions))).astype(np.float32)


def share(found, exact):
    return np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)])


@pytest.fixture
def cheap(monkeypatch):
    """An approximate index costs nothing, so that few images are enough for a test."""
    monkeypatch.setattr(faiss_search, "cost", lambda *_: 0.0)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("wanted", [0.9, 0.99])
def test_the_search_reaches_its_recall_and_says_it(index, wanted, capsys):
    x, measured = points(6000), {}
    exact, _ = nearest_neighbors(x, k=10)
    found, _ = nearest_neighbors(x, k=10, settings=SearchSettings(index=index, recall=wanted), measured=measured)
    assert measured["recall"] >= wanted
    assert share(found, exact) >= wanted - 0.02  # measured on 500 of the images
    assert abs(share(found, exact) - measured["recall"]) < 0.02
    assert f"{measured['recall']:.2%} of the exact neighbours of 500 images" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("index", INDICES)
def test_the_recall_is_that_of_other_images_than_those_that_the_effort_is_chosen_by(index):
    x, measured = points(3000), {}
    exact, _ = nearest_neighbors(x, k=10)
    found, _ = nearest_neighbors(x, k=10, settings=SearchSettings(index=index, recall=0.95), measured=measured)
    chosen, others = compared_queries(3000)
    assert measured["recall"] == pytest.approx(share(found[others], exact[others]))
    assert measured["recall"] != pytest.approx(share(found[chosen], exact[chosen]))
    assert share(found[chosen], exact[chosen]) >= 0.95


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1000, 1001, 1300, 100_000])
def test_queries_that_are_reported_are_others_or_all(count):
    chosen, others = compared_queries(count)
    assert len(chosen) == min(500, count)
    assert len(np.unique(others)) == len(others) == (count if count <= 1000 else 500)
    assert others.min() >= 0
    assert others.max() < count
    assert count <= 1000 or not np.isin(others, chosen).any()


@pytest.mark.usefixtures("cheap")
def test_fewer_lists_are_searched_than_an_eighth_where_these_find_all(monkeypatch):
    rng = np.random.default_rng(0)
    x = np.repeat(10 * rng.standard_normal((50, 16)), 100, axis=0) + rng.standard_normal((5000, 16))
    efforts = []
    monkeypatch.setattr(faiss_search, "set_effort", lambda index, settings, effort: _note(efforts, index, effort))
    nearest_neighbors(x, k=10, settings=SearchSettings(index="ivf"))
    lists = 5000 // 39
    assert efforts[-1] <= lists // 16


def _note(efforts, index, effort):
    efforts.append(effort)
    index.nprobe = effort


def test_where_an_index_costs_as_much_all_are_compared_and_none_is_built(monkeypatch, capsys):
    monkeypatch.setattr(faiss_search, "open_index", lambda *_: pytest.fail("an index was built"))
    x, measured = points(500), {}
    for index in INDICES:
        found = nearest_neighbors(x, k=5, settings=SearchSettings(index=index), measured=measured)
        assert (found[0] == nearest_neighbors(x, k=5)[0]).all()
        assert measured["recall"] == 1
        assert f"all are compared, which is faster than index {index}" in " ".join(capsys.readouterr().out.split())


def test_the_cost_grows_slower_than_that_of_a_comparison_of_all():
    ivf, hnsw = SearchSettings(index="ivf"), SearchSettings(index="hnsw")
    sizes = (50_000, 1_000_000, 10_000_000)
    shares = [[cost(each, n, n, 64) / (n * n / 2) for n in sizes] for each in (ivf, hnsw)]
    assert all(a > 3 * b > 6 * c for a, b, c in shares)
    assert max(shares[0][1], shares[1][1]) < 0.25  # a million
    assert shares[1][2] < shares[0][2]  # ten million: hnsw before ivf


@pytest.mark.parametrize("threshold", [1, 2, 7, 64, 100])
def test_the_least_effort_is_found_in_few_tries(threshold):
    tries = []

    def recall(effort):
        tries.append(effort)
        return 1.0 if effort >= threshold else 0.5

    effort, found = least_effort(recall, 0.99, 100)
    assert threshold <= effort <= threshold * 17 / 16 + 1
    assert found == 1
    assert len(tries) < 16
    assert least_effort(lambda _: 0.5, 0.99, 100) == (100, 0.5)


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("index", ["exact", "ivf", "hnsw"])
@pytest.mark.usefixtures("cheap")
def test_a_killed_search_goes_on_with_the_same_result(index, tmp_path, monkeypatch):
    monkeypatch.setitem(torch_search.TILE, "cpu", 256)
    monkeypatch.setattr(faiss_search, "QUERIES", 256)
    x, settings = points(1500), SearchSettings(index=index)
    expected = nearest_neighbors(x, k=7, settings=settings)
    done = []

    def until_killed(count):
        done.append(count)
        if len(done) == 4:
            raise KilledError

    with pytest.raises(KilledError):
        nearest_neighbors(x, k=7, settings=settings, advance=until_killed, saved=SavedSearch(tmp_path, 0))
    monkeypatch.setattr(faiss_index, "_build", lambda *_: pytest.fail("the index was built again"))
    again: list[int] = []
    found = nearest_neighbors(x, k=7, settings=settings, advance=again.append, saved=SavedSearch(tmp_path, 0))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(done) == 4
    assert again[0] == sum(done) - done[-1]  # what was saved before the kill
    assert sum(again) == len(x)


def test_saves_that_take_long_are_made_less_often(tmp_path, monkeypatch, capsys):
    now = 100.0

    def slowly(file, **arrays):
        nonlocal now
        now += 1.0

    monkeypatch.setattr(saving.time, "monotonic", lambda: now)
    monkeypatch.setattr(np, "savez", slowly)
    saved = SavedSearch(tmp_path, 20)
    now += 20
    assert saved.due()
    saved.save(done=np.array(3))
    now += 49
    assert not saved.due()
    now += 1.1
    assert saved.due()
    assert "a checkpoint takes 1.0 s" in capsys.readouterr().out


def test_a_broken_save_and_one_of_another_search_are_not_used(tmp_path, capsys):
    x = points(600)
    expected = nearest_neighbors(x, k=3)[0]
    (tmp_path / "search.npz").write_bytes(b"PK broken")
    assert (nearest_neighbors(x, k=3, saved=SavedSearch(tmp_path, 0))[0] == expected).all()
    assert "not readable" in capsys.readouterr().out
    SavedSearch(tmp_path, 0).save(keys=np.zeros((600, 9), np.int64), form=np.zeros(5), done=np.array(512))
    assert (nearest_neighbors(x, k=3, saved=SavedSearch(tmp_path, 0))[0] == expected).all()


def test_queries_whose_lists_are_short_are_compared_in_one_pass(monkeypatch):
    calls = []
    search = torch_search.search
    monkeypatch.setattr(torch_search, "search", lambda *a, **k: calls.append(len(a[0])) or search(*a, **k))
    nearest_neighbors(points(60, 4), k=30, settings=SearchSettings(index="ivf", lists=20, probes=1))
    assert len(calls) == 2  # the sample, and all queries at once


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("index", INDICES)
def test_many_vectors_are_held_as_float16(index, monkeypatch):
    monkeypatch.setitem(unit_vectors_module.RESIDENT, "cpu", 0)
    x, measured = points(2000), {}
    found, _ = nearest_neighbors(x, k=5, settings=SearchSettings(index=index), measured=measured)
    assert share(found, nearest_neighbors(x, k=5)[0]) > 0.97
    assert measured["recall"] >= 0.98


def test_of_many_neighbors_few_candidates_are_kept_of_a_tile(monkeypatch):
    kept = []
    merge = torch_search._merge
    monkeypatch.setattr(
        torch_search, "_merge", lambda keys, row, found: kept.append(len(found)) or merge(keys, row, found)
    )
    x = torch.nn.functional.normalize(torch.from_numpy(points(4096)))
    torch_search.search(x, x, k=200, exclude_self=True, advance=lambda _: None)
    assert max(kept) < 4096 * 200 * 3  # and not all 4,096 of each image
