"""The number of clusters: scores against loops, planted groups, noise, and the command."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from sslpipe.io.errors import UserError
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.tools import cluster_scores as scoring
from sslpipe.tools.cluster_scores import Scores, suggest
from sslpipe.tools.estimate_clusters import (
    EstimateSettings,
    Sample,
    Sweep,
    best_merging,
    draw_sample,
    grid,
    merge_curve,
    train_heads,
)
from sslpipe.tools.estimate_report import rows_of, shown, warnings_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from stored import write_model, write_store, write_stored_features

from stages.tools.estimate_clusters import estimate_clusters

CPU = torch.device("cpu")
QUICK = EstimateSettings(at_most=9, seeds=4, steps=60, batch=128, draws=200)
INTERVAL = {"tolerance": 0.05, "draws": 200, "confidence": 0.9}
Floats = NDArray[np.float32]


def cloud(groups: int, seed: int, images: int = 300) -> tuple[Floats, Floats]:
    """Training and held-out features of round groups, as many images in each; one group is plain noise."""
    rng = np.random.default_rng(seed)
    # Centres at right angles, so that no two groups are nearer than others.
    centres = np.linalg.qr(rng.standard_normal((12, 12)))[0][:groups] * (3.0 if groups > 1 else 0.0)
    train, held_out = (
        centres[np.arange(count) % groups] + 0.5 * rng.standard_normal((count, 12)) for count in (images, images // 3)
    )
    return train.astype(np.float32), held_out.astype(np.float32)


def sampled(groups: int, seed: int, how: EstimateSettings = QUICK) -> Sample:
    train, held_out = cloud(groups, seed)
    return draw_sample(train, nearest_neighbors(train, k=10)[0], held_out, how, seed=seed, device=CPU)


def swept(groups: int, seed: int) -> Sweep:
    sample, found = sampled(groups, seed), Sweep()
    for clusters in grid(QUICK, len(sample.features)):
        found.visit(sample, clusters, QUICK, seed=seed)
    return found


def constant(value: float, heads: int = 3) -> Scores:
    """All three scores equal to `value` for every head and image."""
    matrix = np.full((heads, heads), value)
    np.fill_diagonal(matrix, 1)
    return Scores(np.full((heads, 5), value), matrix, np.full((heads, 4), value), 0.1, 2.0)


@pytest.mark.parametrize(("groups", "seed"), [(2, 0), (3, 1), (6, 1), (7, 2)])
def test_planted_groups_are_found(groups: int, seed: int) -> None:
    found = swept(groups, seed)
    suggestion = suggest(found.scores, **INTERVAL, rng=np.random.default_rng(0))
    assert suggestion.suggested == groups
    assert suggestion.low <= groups <= suggestion.high <= groups + 1
    assert suggestion.per_score["agreement"] == suggestion.per_score["silhouette"] == groups
    assert warnings_of(suggestion, min_score=QUICK.min_score, lowest=2, highest=9) == []
    merging = merge_curve(found.assignments[9], nearest_neighbors(cloud(groups, seed)[0], k=10)[0], 9)
    assert [row["groups"] for row in merging] == list(range(8, 1, -1))
    strength = {int(row["groups"]): row["strength"] for row in merging}
    assert strength[groups] > 1 > strength.get(groups - 1, 0)
    assert best_merging(merging) == groups


def test_noise_has_no_clear_number() -> None:
    suggestion = suggest(swept(1, 0).scores, **INTERVAL, rng=np.random.default_rng(0))
    assert suggestion.score < 0.3
    assert "no clear number of clusters" in warnings_of(suggestion, min_score=0.5, lowest=2, highest=9)[0]


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_agreement_is_that_of_the_loops(seed: int, images: int, clusters: int) -> None:
    rng = np.random.default_rng(seed)
    assignment = rng.integers(clusters, size=images)
    neighbors = np.stack([rng.permutation(np.delete(np.arange(images), i)) for i in range(images)])
    counted = max(1, min(images - 1, round(images / (2 * clusters))))
    chance = sum((sum(a == c for a in assignment) / images) ** 2 for c in range(clusters))
    expected = [
        sum(assignment[neighbors[i][n]] == assignment[i] for n in range(counted)) / counted - chance
        for i in range(images)
    ]
    found = scoring.agreement(assignment, neighbors, clusters)
    np.testing.assert_allclose(found, expected)
    assert -1 <= found.mean() <= 1 - 1 / clusters + 1e-9
    if clusters == 1:
        assert (found == 0).all()


def test_silhouette_is_that_of_the_loops() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((12, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    assignment = np.arange(12) % 3
    expected = []
    for i in range(12):
        means = [distances[i, [j for j in range(12) if assignment[j] == c and j != i]].mean() for c in range(3)]
        a, b = means[assignment[i]], min(means[c] for c in range(3) if c != assignment[i])
        expected.append((b - a) / max(a, b))
    np.testing.assert_allclose(scoring.silhouette(distances, assignment), expected)
    assert (scoring.silhouette(distances, np.zeros(12, dtype=int)) == 0).all()
    assert (scoring.silhouette(distances, np.arange(12)) == 0).all()


def test_stability_is_the_mean_over_pairs_of_heads() -> None:
    assignments = np.random.default_rng(0).integers(3, size=(4, 50))
    pairs = [adjusted_rand_score(assignments[a], assignments[b]) for a in range(4) for b in range(a)]
    assert scoring.mean_stability(assignments) == pytest.approx(np.mean(pairs))
    names = np.array([2, 0, 1])
    assert scoring.mean_stability(np.stack([assignments[0], names[assignments[0]]])) == pytest.approx(1)


def test_every_draw_of_equal_values_gives_the_score() -> None:
    scores = constant(0.4)
    drawn = scores.resampled(scoring.resample(scores, 20, np.random.default_rng(0)))
    np.testing.assert_allclose(drawn, 0.4)
    assert scores.mean() == pytest.approx(0.4)
    assert set(scores.means()) == set(scoring.SCORES)


def test_the_interval_holds_what_is_about_as_good_and_of_equal_ones_the_lowest_is_suggested() -> None:
    scores = {2: constant(0.3), 3: constant(0.66), 4: constant(0.7), 5: constant(0.7), 6: constant(0.64)}
    suggestion = suggest(scores, **INTERVAL, rng=np.random.default_rng(0))
    assert (suggestion.low, suggestion.suggested, suggestion.high) == (3, 4, 5)
    alone = suggest(scores, **{**INTERVAL, "tolerance": 0.0}, rng=np.random.default_rng(0))
    assert (alone.low, alone.suggested, alone.high) == (4, 4, 5)


def test_heads_that_differ_widen_the_interval() -> None:
    scores = {2: constant(0.1), 3: constant(0.5), 4: constant(0.4)}
    lucky = scores[4].agreement.copy()
    lucky[0] = 1.0  # one head of three, whose mean is then below that of 3 still
    scores[4] = Scores(lucky, scores[4].stability, scores[4].silhouette, 0.1, 4.0)
    suggestion = suggest(scores, **{**INTERVAL, "tolerance": 0.0}, rng=np.random.default_rng(0))
    assert (suggestion.low, suggestion.suggested, suggestion.high) == (3, 3, 4)


def test_doubts_are_told() -> None:
    flat = {k: constant(0.2) for k in (2, 3, 9)}
    suggestion = suggest(flat, **INTERVAL, rng=np.random.default_rng(0))
    texts = warnings_of(suggestion, min_score=0.5, lowest=2, highest=9)
    assert ["no clear number" in texts[0], "2 to 9 clusters are all plausible" in texts[1]] == [True, True]
    best_last = suggest({2: constant(0.1), 3: constant(0.9)}, **INTERVAL, rng=np.random.default_rng(0))
    assert warnings_of(best_last, min_score=0.5, lowest=2, highest=3) == [
        "the best number is the highest that was tried; raise --at-most 3"
    ]


def test_without_over_clusters_merging_says_nothing() -> None:
    assert merge_curve(np.zeros((2, 9), dtype=np.int64), np.ones((9, 1), dtype=np.int64), 2) == []
    assert best_merging([]) is None


def test_the_grid_holds_each_number_first_and_then_steps() -> None:
    assert grid(EstimateSettings(), 1213) == [*range(2, 21), 25, 32, 40, 50]
    assert grid(EstimateSettings(), 100) == [2, 3, 4, 5]
    assert grid(EstimateSettings(at_least=30, at_most=31), 1213) == [30, 31]
    assert grid(EstimateSettings(), 30) == [2]
    with pytest.raises(UserError, match="--at-most 4: expected between --at-least, 5, and half"):
        grid(EstimateSettings(at_least=5, at_most=4), 1213)
    with pytest.raises(UserError, match="half the training images, 20"):
        grid(EstimateSettings(at_most=30), 40)


def test_numbers_between_the_best_ones_neighbours_are_visited_next() -> None:
    values = {20: 0.3, 23: 0.5, 26: 0.7, 30: 0.6, 34: 0.1}
    assert Sweep({k: constant(value) for k, value in values.items()}).between() == [24, 25, 27, 28, 29]
    assert Sweep({2: constant(0.9), 3: constant(0.5)}).between() == []
    assert Sweep({2: constant(0.1), 5: constant(0.5)}).between() == [3, 4]


def test_of_many_numbers_around_the_best_few_are_visited_and_the_best_is_found() -> None:
    def score(clusters: int) -> float:
        return 1 - abs(clusters - 871) / 2000

    found = Sweep({k: constant(score(k)) for k in grid(EstimateSettings(at_most=2000), 100_000)})
    first = len(found.scores)
    while numbers := found.between():
        assert len(numbers) <= 30
        found.scores.update({k: constant(score(k)) for k in numbers})
    assert max(found.scores, key=lambda k: found.scores[k].mean()) == 871
    assert {870, 872} <= set(found.scores)
    assert len(found.scores) - first < 80  # of more than 400 between the numbers next to the best one of the grid


def test_the_same_seed_trains_the_same_heads_and_another_one_others() -> None:
    sample = sampled(3, 0)
    state = torch.random.get_rng_state()
    first, again, other = (train_heads(sample, 3, QUICK, seed=seed).linear.weight for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_sample_bounds_what_is_used() -> None:
    how = EstimateSettings(sample=100, scored=30)
    sample = sampled(3, 0, how)
    assert sample.features.shape == (100, 12)
    assert sample.neighbors.shape == (100, 10)
    assert int(sample.neighbors.max()) < 100
    assert (sample.neighbors != torch.arange(100)[:, None]).all()
    assert sample.held_out.shape == (30, 12)
    assert sample.distances.shape == (30, 30)
    assert sample.features.mean().abs() < 1e-5
    assert sample.features.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": np.zeros((9,), dtype=np.float32)}, "features: train"),
        ({"held_out": np.zeros((9, 5), dtype=np.float32)}, "features: train"),
        ({"neighbors": np.zeros((7, 2), dtype=np.int64)}, r"indices: shape \(7, 2\) found, expected \[20, K\]"),
        ({"neighbors": np.full((20, 2), 20)}, "each below 20"),
        ({"held_out": np.ones((3, 4), dtype=np.float32)}, "20 training and 3 held-out images found"),
        ({"train": np.full((20, 4), np.nan, dtype=np.float32)}, "NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    given_ = {
        "train": np.ones((20, 4), dtype=np.float32),
        "neighbors": np.zeros((20, 2), dtype=np.int64),
        "held_out": np.ones((8, 4), dtype=np.float32),
    }
    with pytest.raises(UserError, match=message):
        draw_sample(**{**given_, **change}, settings=EstimateSettings(), seed=0, device=CPU)


@pytest.mark.parametrize("wrong", [{"seeds": 1}, {"at_least": 1}])
def test_settings_that_compare_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="expected at least 2"):
        EstimateSettings(**wrong)


def test_the_table_is_short_and_holds_what_matters() -> None:
    numbers = list(range(2, 60))
    places = shown(numbers, 30)
    assert len(places) <= 20
    assert places == sorted(set(places))
    assert {numbers[place] for place in places} >= {2, 59, *range(26, 35)}
    assert shown([2], 2) == [0]
    assert [row["clusters"] for row in rows_of({5: constant(0.1), 3: constant(0.2)})] == [3, 5]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_command_writes_the_curve_and_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mined, out = Path("runs/mine-neighbors"), Path("runs/estimate-clusters")
    clouds = dict(zip(("train", "held_out"), cloud(4, 0), strict=True))
    blank = {split: np.zeros((len(features), 1, 8, 8), np.uint8) for split, features in clouds.items()}
    store = write_store(Path("runs/prepare"), blank)
    write_model(Path("runs/pretrain"), store)
    write_stored_features(Path("runs/features"), store, Path("runs/pretrain"), clouds)
    for split, features in clouds.items():
        (mined / split).mkdir(parents=True)
        np.save(mined / split / "indices.npy", nearest_neighbors(features, k=5)[0])
    Path("params.yaml").write_text("seed: 3\n")
    estimate_clusters(at_most=6, seeds=4, device="cpu")
    assert capsys.readouterr().out.splitlines()[-1] == "suggested: 4 clusters (4 to 4); set cluster.clusters"
    written = json.loads((out / "suggestion.json").read_text())
    assert (written["suggested"], written["reliable"], written["settings"]["seed"]) == (4, True, 3)
    assert written["per_score"] == {"agreement": 4, "stability": 4, "silhouette": 4, "merging": 4}
    assert len(written["features"]["sha256"]) == 64
    assert [row["clusters"] for row in rows(out / "curve.csv")] == ["2", "3", "4", "5", "6"]
    assert [row["groups"] for row in rows(out / "merge.csv")] == ["5", "4", "3", "2"]

    Path("runs/features/held_out/features.npy").unlink()
    with pytest.raises(UserError, match=r"features.npy: no such file; run 'sslpipe features' or 'dvc repro'"):
        estimate_clusters(device="cpu")
    assert json.loads((out / "suggestion.json").read_text()) == written
