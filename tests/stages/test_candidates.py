"""The table of candidates of `cluster`, and the choice of its result."""

from pathlib import Path

import numpy as np
import pytest

from sslpipe.io.files import sha256
from sslpipe.nets.model_file import load_model
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
