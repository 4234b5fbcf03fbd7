"""Estimate the number of clusters: linear SCAN heads on cached features for each number, scored without labels."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.samples import some_of
from sslpipe.data.seeds import RandomStream, mix
from sslpipe.io.console import progress
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, NonNegative, Positive
from sslpipe.methods._heads import Pairs, losses_of
from sslpipe.methods._heads import train_heads as train_scan_heads
from sslpipe.neighbors.merging import Merge, count_links, merge_steps, merged
from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.neighbors.unit_vectors import unit_vectors
from sslpipe.nets.heads import ClusterHeads, ClusterSettings
from sslpipe.objectives.scan import scan
from sslpipe.tools.cluster_scores import Scores, agreement, mean_stability, neighbors_counted, silhouette, stability

LEAST_IMAGES = 20
"""Training images per cluster for the default of the highest number (own choice)."""
EACH_UP_TO = 20
"""Every number up to this one is tried; larger ones in steps, and then the numbers around the best (own choice)."""
STEP = 1.26
"""Factor between numbers above EACH_UP_TO (own choice)."""
AROUND = 30
"""Numbers around the best one that are tried at a time, at most: all of them if it is at most 63. Of more, some
at even distances are tried, and then those around the best of these (own choice)."""


@dataclass(frozen=True, kw_only=True)
class EstimateSettings:
    """How heads are trained and scored. Values without a source are our own choice, on digits of seeds 10 to 12."""

    at_least: Count = 2
    """Lowest number of clusters."""
    at_most: Count | None = None
    """Highest number of clusters; null: 50, or fewer if there are fewer than 1,000 training images."""
    seeds: Count = 8
    """Number of heads for each number of clusters, which differ only in their initial weights."""
    kept: Fraction = 0.5
    """Share of the heads that is scored, at least two: those with the lowest training loss. The others merge two
    clusters and split a third one, and contain no information about the number of clusters."""
    neighbors: Count = 5
    """Neighbours of an image that should be in its cluster (SCAN, arXiv:2005.12320, section 3.1), or as many as were
    mined."""
    entropy_weight: NonNegative = 5.0
    """λ of eq. 2 (SCAN's public code)."""
    steps: Count = 200
    """Training steps of the heads; 400 gave the same result on seed 10 in twice the time."""
    batch: Count = 256
    """Images per step."""
    lr: Positive = 1e-2
    """Initial learning rate of Adam, with a cosine schedule; features have mean 0 and standard deviation 1."""
    sample: Count = 10_000
    """Maximum number of training images; of more images a random sample is used, whose neighbours are mined again."""
    scored: Count = 1_000
    """Maximum number of held-out images, and of images for the silhouette, which needs all pairwise distances."""
    draws: Count = 1_000
    """Number of bootstrap samples for the interval."""
    confidence: Fraction = 0.9
    """Share of the bootstrap samples within the interval."""
    tolerance: Fraction = 0.05
    """Scores that are lower than the best by at most this value are regarded as equal: on seed 12, the score of 10
    clusters was 0.04 below that of 11."""
    min_score: Fraction = 0.58
    """A best score below this value causes a warning: digits reach 0.61 to 0.81 after simclr and 0.56 after rotnet,
    principal components of the pixels of photographs 0.52, a single Gaussian cluster 0.09 in 32 dimensions and 0.49 in
    4."""

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise UserError(f"seeds: {self.seeds} found, expected at least 2, since their clusters are compared")
        if self.at_least < 2:
            raise UserError(f"at_least: {self.at_least} found, expected at least 2")


@dataclass(frozen=True)
class Sample:
    """Images that the heads are trained and scored on; features are standardised unit vectors."""

    features: Tensor
    """[N, D] features of training images, with mean 0 and standard deviation 1 over all values."""
    neighbors: Tensor
    """int64 [N, K], neighbours of the training images."""
    held_out: Tensor
    """[M, D] features of held-out images, standardised by the training images."""
    held_out_neighbors: NDArray[np.int64]
    """[M, n] neighbours of the held-out images, as many as the lowest number of clusters needs."""
    shown: NDArray[np.int64]
    """[S] indices of the training images for the silhouette."""
    distances: NDArray[np.float64]
    """[S, S] cosine distances of the silhouette's images, 0 to 2."""


def draw_sample(
    train: NDArray[Any],
    neighbors: NDArray[Any],
    held_out: NDArray[Any],
    settings: EstimateSettings,
    *,
    seed: int,
    device: torch.device,
) -> Sample:
    """Return a sample of the images that limits memory and time.

    train: [N, D] features, which may be memory-mapped; neighbors: [N, K] indices; held_out: [M, D] features.
    Raises UserError for shapes that do not match and for too few images.
    """
    if train.ndim != 2 or held_out.ndim != 2 or train.shape[1] != held_out.shape[1]:
        raise UserError(
            f"features: train {train.shape} and held_out {held_out.shape} found, expected [N, D] and [M, D]"
        )
    if neighbors.ndim != 2 or len(neighbors) != len(train):
        raise UserError(f"indices: shape {neighbors.shape} found, expected [{len(train)}, K]")
    if not neighbors.shape[1] or not 0 <= neighbors.min() <= neighbors.max() < len(train):
        raise UserError(f"indices: expected at least one neighbour per image, each below {len(train)}")
    if len(train) < 2 * settings.at_least or len(held_out) < 2 * settings.at_least:
        raise UserError(
            f"{len(train)} training and {len(held_out)} held-out images found, expected at least "
            f"{2 * settings.at_least} each for {settings.at_least} clusters"
        )
    rng = np.random.default_rng(mix(seed, RandomStream.ESTIMATE_SAMPLE))
    rows = some_of(len(train), settings.sample, rng)
    used = _unit(train[rows], device, "train")
    if len(rows) < len(train):
        mined = min(neighbors.shape[1], len(rows) - 1)
        neighbors = nearest_neighbors(used, k=mined, device=device)[0]
    scored = _unit(held_out[some_of(len(held_out), settings.scored, rng)], device, "held_out")
    nearest = nearest_neighbors(scored, k=neighbors_counted(len(scored), settings.at_least), device=device)[0]
    shown = some_of(len(used), settings.scored, rng)
    unit = used[torch.from_numpy(shown).to(device)].cpu().double().numpy()
    distances = np.clip(1 - unit @ unit.T, 0, 2)
    np.fill_diagonal(distances, 0)
    mean = used.mean(dim=0)
    deviation = (used - mean).std().clamp_min(1e-12)
    return Sample(
        (used - mean) / deviation,
        torch.from_numpy(np.array(neighbors, dtype=np.int64)).to(device),
        (scored - mean) / deviation,
        nearest,
        shown,
        distances,
    )


def _unit(features: NDArray[Any], device: torch.device, split: str) -> Tensor:
    """Return the features as unit vectors [N, D] on `device`; raises UserError for values that are not finite."""
    try:
        return unit_vectors(np.asarray(features), device)
    except ValueError as error:
        again = "run 'sslpipe pretrain', 'sslpipe features' and 'sslpipe mine-neighbors' again"
        raise UserError(f"{split}/features.npy: {error}; {again}") from None


def train_heads(sample: Sample, clusters: int, settings: EstimateSettings, *, seed: int) -> ClusterHeads:
    """Train heads with `clusters` clusters by the SCAN loss (eq. 2) on random pairs of an image and a neighbour.

    The heads differ in their initial weights. All random draws depend only on `seed` and `clusters`.
    """
    pairs = Pairs(sample.features, sample.neighbors[:, : settings.neighbors])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, RandomStream.ESTIMATE_WEIGHTS, clusters))
        return train_scan_heads(
            pairs,
            ClusterSettings(clusters=clusters, heads=settings.seeds),
            entropy_weight=settings.entropy_weight,
            lr=settings.lr,
            steps=settings.steps,
            batch=settings.batch,
            generator=torch.Generator().manual_seed(mix(seed, RandomStream.ESTIMATE_BATCHES, clusters)),
        )


@torch.no_grad()
def score_heads(sample: Sample, heads: ClusterHeads, settings: EstimateSettings) -> tuple[Scores, NDArray[np.int64]]:
    """Return the scores of the heads with the lowest training loss, and their clusters of training images, [H, N]."""
    clusters = heads.settings.clusters
    logits, held_out = heads(sample.features), heads(sample.held_out)
    weight = settings.entropy_weight
    pairs = Pairs(sample.features, sample.neighbors[:, : settings.neighbors])
    losses = losses_of(pairs, heads, entropy_weight=weight)
    kept = losses.argsort(stable=True)[: max(2, round(settings.kept * settings.seeds))]
    assignment = logits[kept].argmax(dim=2).cpu().numpy()
    own = held_out[kept]
    nearest = torch.from_numpy(sample.held_out_neighbors[:, : settings.neighbors]).to(own.device)
    loss = torch.stack([scan(own, own[:, row], entropy_weight=weight)["consistency"] for row in nearest.T]).mean()
    agreements = [agreement(row, sample.held_out_neighbors, clusters) for row in own.argmax(dim=2).cpu().numpy()]
    scores = Scores(
        np.stack(agreements),
        stability(assignment),
        np.stack([silhouette(sample.distances, row[sample.shown]) for row in assignment]),
        float(loss),
        float(np.mean([len(np.unique(row)) for row in assignment])),
    )
    return scores, assignment


@dataclass(frozen=True)
class Sweep:
    """Results for several numbers of clusters."""

    scores: dict[int, Scores] = field(default_factory=dict)
    """Scores of each number."""
    assignments: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """[H, N] clusters of the training images by the scored heads of each number."""

    def visit(self, sample: Sample, clusters: int, settings: EstimateSettings, *, seed: int) -> None:
        """Train and score heads with `clusters` clusters."""
        heads = train_heads(sample, clusters, settings, seed=seed)
        self.scores[clusters], self.assignments[clusters] = score_heads(sample, heads, settings)

    def between(self) -> list[int]:
        """Return the numbers to visit next: those that are left between the visited numbers next to the best one.

        Of more than AROUND, evenly spaced ones are returned.
        """
        visited = sorted(self.scores)
        place = visited.index(max(visited, key=lambda clusters: (self.scores[clusters].mean(), -clusters)))
        around = range(visited[max(place - 1, 0)], visited[min(place + 1, len(visited) - 1)])
        left = [clusters for clusters in around if clusters not in self.scores]
        return [left[i] for i in np.linspace(0, len(left) - 1, min(len(left), AROUND)).round().astype(int)]


def sweep(sample: Sample, settings: EstimateSettings, *, seed: int) -> Sweep:
    """Train and score heads for the numbers of `grid`, and then for numbers around the best one.

    As long as at most AROUND numbers are left around the best one, all of them are tried.
    """
    result = Sweep()
    numbers = grid(settings, len(sample.features))
    while numbers:
        with progress("numbers of clusters", len(numbers), "numbers") as bar:
            for clusters in numbers:
                result.visit(sample, clusters, settings, seed=seed)
                bar.advance()
        numbers = result.between()
    return result


def grid(settings: EstimateSettings, images: int) -> list[int]:
    """Return the numbers of clusters to try, ascending: each up to EACH_UP_TO, then in steps of STEP up to the highest.

    images: number of images that the heads are trained on. Raises UserError if the highest number is below the lowest
    or above half of the images.
    """
    lowest = settings.at_least
    highest = settings.at_most or max(lowest, min(50, images // LEAST_IMAGES))
    if not lowest <= highest <= images // 2:
        raise UserError(
            f"--at-most {highest}: expected between --at-least, {lowest}, and half the training images, {images // 2}"
        )
    numbers = [lowest]
    while numbers[-1] < highest:
        last = numbers[-1]
        numbers.append(min(highest, last + 1 if last < EACH_UP_TO else round(last * STEP)))
    return numbers


def merge_curve(assignments: NDArray[np.int64], neighbors: NDArray[np.int64], clusters: int) -> list[dict[str, float]]:
    """Merge clusters by their neighbour links and describe the result at each number of groups, `clusters` - 1 to 2.

    assignments: [H, N] of H heads; neighbors: [N, K]. Each row has "groups", the number of groups; "strength" of the
    last merge and "modularity" of the groups (both as in `Merge`, means over the heads that use enough clusters); and
    "stability", the mean adjusted Rand index of pairs of heads.
    """
    runs = [merge_steps(count_links(row, neighbors, clusters=clusters)) for row in assignments]
    rows = []
    steps_at: dict[int, list[Merge]] = defaultdict(list)
    for step in chain.from_iterable(runs):
        steps_at[step.groups].append(step)
    for groups in range(clusters - 1, 1, -1):
        before, after = steps_at[groups + 1], steps_at[groups]
        if not before:
            continue
        grouped = [merged(steps, clusters, groups)[row] for steps, row in zip(runs, assignments, strict=True)]
        rows.append(
            {
                "groups": groups,
                "strength": float(np.mean([step.strength for step in before])),
                "modularity": float(np.mean([step.modularity for step in after])),
                "stability": mean_stability(np.stack(grouped)),
            }
        )
    return rows


def best_merging(curve: list[dict[str, float]]) -> int | None:
    """Return the number of groups with the highest mean of stability and modularity; None for an empty curve.

    Both are needed: too few groups can be stable as well, and the modularity favours too many groups.
    """
    if not curve:
        return None
    return int(max(curve, key=lambda row: (row["stability"] + row["modularity"], -row["groups"]))["groups"])
