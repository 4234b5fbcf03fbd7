"""Neighbours by candidates in fewer dimensions, against exact search; and the choice between the two."""

import numpy as np
import pytest
import torch

from sslpipe.io.errors import UserError
from sslpipe.neighbors import reduced_search, search
from sslpipe.neighbors import unit_vectors as unit_vectors_module
from sslpipe.neighbors.mining import SearchSettings
from sslpipe.neighbors.search import EXACT, nearest_in, nearest_neighbors
from sslpipe.neighbors.unit_vectors import UnitVectors

CPU = torch.device("cpu")
AUTO, REDUCED = SearchSettings(), SearchSettings(index="reduced")


def decaying(images=600, dimensions=64, seed=0):
    """Features whose variance falls from direction to direction, as a network's does, off the origin."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((images, dimensions)) / np.arange(1, dimensions + 1) + 0.3).astype(np.float16)


@pytest.fixture(autouse=True)
def few_components(monkeypatch):
    monkeypatch.setattr(reduced_search, "COMPONENTS", 16)
    monkeypatch.setattr(reduced_search, "ROWS", 100)


@pytest.fixture(params=[True, False])
def resident(request, monkeypatch):
    """Whether all vectors are scaled at once, or as they are used."""
    if not request.param:
        monkeypatch.setitem(unit_vectors_module.RESIDENT, "cpu", 0)


@pytest.mark.usefixtures("resident")
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_neighbours_are_those_of_an_exact_search(dtype):
    x = decaying().astype(dtype)
    x[5] = 0
    for found, exact in (
        (nearest_neighbors(x, k=8, settings=REDUCED), nearest_neighbors(x, k=8, settings=EXACT)),
        (nearest_in(x[:50], x, k=8, settings=REDUCED), nearest_in(x[:50], x, k=8, settings=EXACT)),
    ):
        other = np.arange(len(found[0])) != 5  # the zero vector's neighbours all have similarity 0
        assert (found[0] == exact[0])[other].mean() > 0.998
        np.testing.assert_allclose(found[1][other], exact[1][other], atol=2e-3)
        assert (found[1][5] == 0).all()


def test_all_images_as_candidates_give_the_same_order_copies_included():
    x = np.repeat(decaying(15), 2, axis=0)
    found, exact = (nearest_neighbors(x, k=8, settings=each) for each in (REDUCED, EXACT))
    assert (found[0] == exact[0]).all()
    assert (found[0] != np.arange(30)[:, None]).all()


@pytest.mark.parametrize("exclude_self", [True, False])
def test_recall_is_the_share_of_exact_neighbours_that_were_found(monkeypatch, exclude_self):
    monkeypatch.setattr(reduced_search, "COMPONENTS", 3)
    monkeypatch.setattr(reduced_search, "candidates_for", lambda k: k + 4)
    x = decaying(200)
    bank = UnitVectors(x, CPU)
    reduced = reduced_search.ReducedSearch(bank, bank, k=6, exclude_self=exclude_self)
    indices, _ = reduced.search(lambda _: None)
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    products = unit @ unit.T
    if exclude_self:
        np.fill_diagonal(products, -2)
    exact = np.argsort(-products, axis=1)[:, :6]
    expected = np.mean([np.isin(each, own).mean() for each, own in zip(exact, indices, strict=True)])
    assert 0.3 < expected < 0.9
    assert reduced.compared == 200
    assert reduced.recall() == pytest.approx(expected, abs=1e-9)


def test_the_result_is_the_same_for_any_number_of_threads():
    before, x = torch.get_num_threads(), decaying(2000)
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(nearest_neighbors(x, k=5, settings=REDUCED))
    finally:
        torch.set_num_threads(before)
    assert all((a == b).all() for a, b in zip(*found, strict=True))


def test_auto_is_exact_for_few_images_or_dimensions(capsys, monkeypatch):
    nearest_neighbors(decaying(), k=4, settings=AUTO)
    monkeypatch.setattr(search, "REDUCED_IMAGES", 500)
    nearest_neighbors(decaying(), k=4, settings=AUTO)
    assert capsys.readouterr() == ("", "")


def test_auto_is_reduced_for_many_images_and_a_line_says_so(capsys, monkeypatch):
    monkeypatch.setattr(search, "REDUCED_IMAGES", 500)
    monkeypatch.setattr(search, "REDUCED_DIMENSIONS", 64)
    done = []
    nearest_neighbors(decaying(), k=4, settings=AUTO, advance=done.append)
    assert sum(done) == 600
    line = "".join(capsys.readouterr())
    assert "4 neighbours of 600 images among 600" in line
    assert "100.00% of the exact neighbours of 500 images; mine_neighbors.index: exact compares all images" in line


def test_auto_searches_all_images_if_the_candidates_miss_neighbours(capsys, monkeypatch):
    monkeypatch.setattr(search, "REDUCED_IMAGES", 500)
    monkeypatch.setattr(search, "REDUCED_DIMENSIONS", 64)
    monkeypatch.setattr(reduced_search, "candidates_for", lambda k: k)
    done, x = [], decaying()
    found = nearest_neighbors(x, k=4, settings=AUTO, advance=done.append)
    assert "less than 99.9%, so all are compared" in "".join(capsys.readouterr())
    assert (found[0] == nearest_neighbors(x, k=4, settings=EXACT)[0]).all()
    assert sum(done) == 600
    kept = nearest_neighbors(x, k=4, settings=REDUCED)
    assert "mine_neighbors.index: exact" in "".join(capsys.readouterr())
    assert (kept[0] != found[0]).any()


def test_settings_that_do_not_fit_are_named():
    for settings, message in (
        (SearchSettings(index="reduced", backend="faiss"), "mine_neighbors.backend: 'faiss' has no index 'reduced'"),
        (SearchSettings(index="reduced", probes=2), "only index 'ivf' has them, index is 'reduced'"),
    ):
        with pytest.raises(UserError, match=message):
            nearest_neighbors(decaying(20), k=2, settings=settings)
