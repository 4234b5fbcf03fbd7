"""The table of candidates of `cluster`, and the choice of its result."""

import json
from pathlib import Path

import numpy as np
import pytest

from sslpipe.io.files import sha256
from sslpipe.metrics.pca import fit_pca
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.nets.model_file import load_model
from sslpipe.running.candidates import NOTHING
from stages.cluster import cluster
from stages.evaluate import evaluate
from stages.self_label import self_label

OUT = Path("runs/cluster")


def replaced(monkeypatch, name):
    """Let the candidates with this name be the best."""
    monkeypatch.setattr("sslpipe.running.candidates.Candidate.rank", property(lambda each: float(each.name == name)))


def test_the_table_is_written_and_printed(project, read_csv, capsys):
    cluster(epochs=1)
    rows = read_csv(OUT / "candidates.csv")
    assert {row["candidate"] for row in rows} == {
        "scan (this run)",
        *(f"{method}, {space}" for method in ("kmeans", "spectral") for space in ("pixels", "features")),
    }
    ranks = [float(row["rank"]) for row in rows]
    assert ranks == sorted(ranks, reverse=True)
    for row in rows:
        assert float(row["rank"]) == pytest.approx((float(row["pixels"]) + float(row["features"])) / 2)
        assert 0 < float(row["pixels"]) < 0.9
    out = capsys.readouterr().out
    assert "candidates by neighbour modularity, 200 images, no labels" in out
    assert "scan (this run)" in out
    assert not (OUT / "trained").exists()


@pytest.mark.parametrize(
    ("card", "images", "searches"),
    [
        ({}, 2000, 1),  # pixels alone
        ({"index": "exact"}, 2000, 1),
        ({}, 200, 2),  # another graph, of some of the images
        ({"index": "ivf"}, 2000, 2),
        ({"layer": "head"}, 2000, 2),
        ({"backend": "faiss"}, 2000, 2),
        ({"inputs": {"runs/features/card.json": "0" * 64}}, 2000, 2),
    ],
    ids=str,
)
def test_neighbors_and_components_of_all_images_are_computed_once(
    project, monkeypatch, read_csv, card, images, searches
):
    searched, fitted = [], []

    def search(rows, **settings):
        searched.append(len(rows))
        return nearest_neighbors(rows, **settings)

    def fit(rows, components):
        fitted.append(tuple(rows.shape))
        return fit_pca(rows, components)

    monkeypatch.setattr("sslpipe.running.candidates.nearest_neighbors", search)
    for module in ("sslpipe.running.candidates", "sslpipe.methods.cluster._problem"):
        monkeypatch.setattr(f"{module}.fit_pca", fit)
    given = ["scan_heads.neighbors=6", "scan_heads.steps=50", f"compare.images={images}", "compare.neighbors=6"]
    path = Path("runs/mine-neighbors/card.json")
    before = json.loads(path.read_text())
    outer = {key: value for key, value in card.items() if key == "inputs"}
    inner = {key: value for key, value in card.items() if key != "inputs"}
    path.write_text(json.dumps({**before, **outer, "settings": {**before["settings"], **inner}}))
    cluster(method="scan_heads", assignments=given)
    assert searched == [min(images, 1213)] * searches
    features, pixels = ((min(images, 1213), width) for width in (64, 64))
    assert fitted == [(1213, 64), pixels] + ([] if images > 1213 else [features])
    table = read_csv(OUT / "candidates.csv")
    monkeypatch.setattr("sslpipe.running.comparison.Comparison._known", lambda _: NOTHING)
    cluster(method="scan_heads", assignments=given)
    assert read_csv(OUT / "candidates.csv") == table


def test_a_method_on_features_is_not_compared_with_itself(project, read_csv):
    cluster(method="kmeans")
    names = [row["candidate"] for row in read_csv(OUT / "candidates.csv")]
    assert sorted(names) == ["kmeans (this run)", "kmeans, pixels", "spectral, features", "spectral, pixels"]


@pytest.mark.parametrize("name", ["spectral, pixels", "kmeans, pixels", "spectral, features", "kmeans, features"])
def test_a_better_baseline_becomes_the_result(project, monkeypatch, capsys, name):
    replaced(monkeypatch, name)
    cluster(epochs=1, assignments=["compare.replace=true"])
    assert f"is worse than {name}" in capsys.readouterr().out
    network, card = load_model(OUT)
    own, own_card = load_model(OUT / "trained")
    assert network.settings.name == ("pixels" if name.endswith("pixels") else "tiny_resnet")
    assert own.settings.name == "tiny_resnet"
    assert (card.settings["chosen"], "chosen" in own_card.settings) == (name, False)
    assert card.classes == own_card.classes
    self_label(epochs=1)
    evaluate()
    self_label(method="neighbors", assignments=["neighbors.neighbors=5"])
    assert load_model(Path("runs/self-label"))[0].settings.name == network.settings.name


def test_the_trained_model_is_kept_unless_it_is_to_be_replaced(project, monkeypatch, capsys):
    cluster(epochs=1)
    before = sha256(OUT / "model.safetensors")
    capsys.readouterr()
    replaced(monkeypatch, "spectral, pixels")
    cluster(epochs=1)
    assert "scan is worse than spectral, pixels" in capsys.readouterr().out
    assert sha256(OUT / "model.safetensors") == before
    cluster(epochs=1, assignments=["compare.gap=2", "compare.replace=true"])
    assert "scan is not clearly better than" in capsys.readouterr().out
    assert sha256(OUT / "model.safetensors") == before
    replaced(monkeypatch, "scan (this run)")
    cluster(epochs=1, assignments=["compare.replace=true"])
    assert "better" not in capsys.readouterr().out


def test_nothing_is_compared_where_no_image_is(project):
    cluster(epochs=1, assignments=["compare.images=0"])
    assert not (OUT / "candidates.csv").exists()


def test_the_same_images_are_drawn_again(project, read_csv):
    cluster(epochs=1)
    first = read_csv(OUT / "candidates.csv")
    cluster(epochs=1)
    assert read_csv(OUT / "candidates.csv") == first
    assert np.isfinite([float(row["rank"]) for row in first]).all()
