"""How many groups there are: linear SCAN heads on cached features for each number, scored without labels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.seeds import RandomStream, mix
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, NonNegative, Positive
from sslpipe.neighbors.merging import count_links, merge_steps, merged
from sslpipe.neighbors.search import nearest_neighbors, unit_vectors
from sslpipe.nets.heads import ClusterHeads, ClusterSettings
from sslpipe.objectives.scan import scan
from sslpipe.tools.cluster_scores import Scores, agreement, mean_stability, neighbors_counted, silhouette, stability

LEAST_IMAGES = 20
"""Training images a cluster that the highest number leaves by default (own choice)."""
EACH_UP_TO = 20
"""So far every number is tried; above it in steps of STEP, and then those around the best (own choice)."""
STEP = 1.26


@dataclass(frozen=True, kw_only=True)
class EstimateSettings:
    """How heads are trained and scored. Where no other source is given: own choice, on digits of seeds 10 to 12."""

    at_least: Count = 2
    at_most: Count | None = None
    """Null: 50, or fewer where there are fewer than 1,000 training images."""
    seeds: Count = 8
    """Heads of each number of clusters, which differ in their start alone."""
    kept: Fraction = 0.5
    """Part of them, at least two, that is scored: those with the lowest training loss. The others have merged two
    groups and split a third, which says nothing about the number."""
    neighbors: Count = 5
    """Of an image, which shall share its cluster (SCAN, section 3.1), or as many as were mined."""
    entropy_weight: NonNegative = 5.0
    """λ of eq. 2 (SCAN's public code)."""
    steps: Count = 200
    """400 gave the same answer on seed 10, in twice the time."""
    batch: Count = 256
    lr: Positive = 1e-2
    """Of Adam, at the start of a cosine; features have mean 0 and deviation 1."""
    sample: Count = 10_000
    """Training images at most, drawn at random; their neighbours are then mined anew among them."""
    scored: Count = 1_000
    """Held-out images and images for the silhouette, at most each: the distances of all pairs are needed."""
    draws: Count = 1_000
    """For the interval."""
    confidence: Fraction = 0.9
    """Part of the draws that the interval holds."""
    near: Fraction = 0.05
    """A number whose score is so little below the best is about as good: on seed 12 ten were 0.04 below eleven."""
    clear: Fraction = 0.58
    """A best score below it is no clear answer: digits reach 0.61 to 0.81 after simclr, 0.56 after rotnet; principal
    components of the pixels of photographs 0.52; one round cloud 0.09 in 32 dimensions and 0.49 in 4."""

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise UserError(f"seeds: {self.seeds} found, expected at least 2, since starts are compared")
        if self.at_least < 2:
            raise UserError(f"at_least: {self.at_least} found, expected at least 2")


@dataclass(frozen=True)
class Sample:
    """What the heads learn from and are scored on; features are unit vectors, moved and scaled alike."""

    features: Tensor
    """[N, D] of training images, mean 0, deviation 1 over all values."""
    neighbors: Tensor
    """int64 [N, K]."""
    held_out: Tensor
    """[M, D]."""
    held_out_neighbors: NDArray[np.int64]
    """[M, n]: as many as the lowest number of clusters needs."""
    shown: NDArray[np.int64]
    """[S] training images for the silhouette."""
    distances: NDArray[np.float64]
    """[S, S] cosine distances of these, 0 to 2."""


def draw_sample(
    train: NDArray[Any],
    neighbors: NDArray[Any],
    held_out: NDArray[Any],
    settings: EstimateSettings,
    *,
    seed: int,
    device: torch.device,
) -> Sample:
    """A sample that bounds memory and time whatever the number of images.

    train: [N, D] features, which may be mapped from the disk; neighbors: [N, K] indices; held_out: [M, D].
    Raises UserError where shapes do not fit or are too small.
    """
    if train.ndim != 2 or held_out.ndim != 2 or train.shape[1] != held_out.shape[1]:
        raise UserError(
            f"features: train {train.shape} and held_out {held_out.shape} found, expected [N, D] and [M, D]"
        )
    if neighbors.ndim != 2 or len(neighbors) != len(train):
        raise UserError(f"indices: shape {neighbors.shape} found, expected [{len(train)}, K]")
    if not neighbors.shape[1] or not 0 <= neighbors.min() <= neighbors.max() < len(train):
        raise UserError(f"indices: expected at least one neighbour an image, each below {len(train)}")
    if len(train) < 2 * settings.at_least or len(held_out) < 2 * settings.at_least:
        raise UserError(
            f"{len(train)} training and {len(held_out)} held-out images found, expected at least "
            f"{2 * settings.at_least} each for {settings.at_least} clusters"
        )
    rng = np.random.default_rng(mix(seed, RandomStream.ESTIMATE_SAMPLE))
    rows = _some(len(train), settings.sample, rng)
    used = _unit(train[rows], device)
    if len(rows) < len(train):
        mined = min(neighbors.shape[1], len(rows) - 1)
        neighbors = nearest_neighbors(used, k=mined, device=device)[0]
    scored = _unit(held_out[_some(len(held_out), settings.scored, rng)], device)
    nearest = nearest_neighbors(scored, k=neighbors_counted(len(scored), settings.at_least), device=device)[0]
    shown = _some(len(used), settings.scored, rng)
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


def _unit(features: NDArray[Any], device: torch.device) -> Tensor:
    """[N, D] unit vectors on `device`; UserError where a value is not finite."""
    try:
        return unit_vectors(np.asarray(features), device)
    except ValueError as error:
        raise UserError(f"{error}; run 'sslpipe pretrain' and 'sslpipe mine-neighbors' again") from None


def _some(count: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `most` of `count` indices, in order."""
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def train_heads(sample: Sample, clusters: int, settings: EstimateSettings, *, seed: int) -> ClusterHeads:
    """Heads of so many clusters after eq. 2 on pairs of an image and one of its neighbours, all drawn anew each step.

    They differ in their start values; `seed` and `clusters` decide these and the draws.
    """
    features, device = sample.features, sample.features.device
    k = min(settings.neighbors, sample.neighbors.shape[1])
    generator = torch.Generator().manual_seed(mix(seed, RandomStream.ESTIMATE_BATCHES, clusters))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, RandomStream.ESTIMATE_WEIGHTS, clusters))
        heads = ClusterHeads(features.shape[1], ClusterSettings(clusters=clusters, heads=settings.seeds)).to(device)
    optimizer = torch.optim.Adam(heads.parameters(), lr=settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    size = min(settings.batch, len(features))
    for _ in range(settings.steps):
        index = torch.randint(len(features), (size,), generator=generator).to(device)
        choice = torch.randint(k, (size,), generator=generator).to(device)
        logits = heads(features[torch.cat([index, sample.neighbors[index, choice]])])
        anchor, neighbor = logits.chunk(2, dim=1)
        loss = scan(anchor, neighbor, entropy_weight=settings.entropy_weight)["loss"].sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return heads


@torch.no_grad()
def score_heads(sample: Sample, heads: ClusterHeads, settings: EstimateSettings) -> tuple[Scores, NDArray[np.int64]]:
    """Scores of the heads with the lowest training loss, and their clusters [H, N] of the training images."""
    clusters = heads.settings.clusters
    logits, held_out = heads(sample.features), heads(sample.held_out)
    neighbors = sample.neighbors[:, : settings.neighbors].T
    weight = settings.entropy_weight
    losses = torch.stack([scan(logits, logits[:, row], entropy_weight=weight)["loss"] for row in neighbors]).mean(dim=0)
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
    """Numbers of clusters and what was found for each."""

    scores: dict[int, Scores] = field(default_factory=dict)
    assignments: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """[H, N] of the kept heads on the training images."""

    def visit(self, sample: Sample, clusters: int, settings: EstimateSettings, *, seed: int) -> None:
        """Train and score heads of so many clusters."""
        heads = train_heads(sample, clusters, settings, seed=seed)
        self.scores[clusters], self.assignments[clusters] = score_heads(sample, heads, settings)

    def between(self) -> list[int]:
        """Numbers that were not visited between the best one's neighbours among those that were."""
        visited = sorted(self.scores)
        place = visited.index(max(visited, key=lambda clusters: (self.scores[clusters].mean(), -clusters)))
        around = range(visited[max(place - 1, 0)], visited[min(place + 1, len(visited) - 1)])
        return [clusters for clusters in around if clusters not in self.scores]


def grid(settings: EstimateSettings, images: int) -> list[int]:
    """Numbers to visit, ascending: each up to EACH_UP_TO, then in steps of STEP up to the highest.

    images: how many the heads learn from. Raises UserError where the highest is below the lowest or above half of them.
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
    """What merging over-clusters by neighbour links meets at each number of groups, from `clusters` - 1 down to 2.

    assignments: [H, N] of H heads; neighbors: [N, K]. Each row: "groups" that are left, "strength" of the merge that
    led there, "modularity" of the groups (both as in `Merge`, means over heads that have so many clusters in use), and
    "stability": mean adjusted Rand index of each two heads' groups.
    """
    runs = [merge_steps(count_links(row, neighbors, clusters=clusters)) for row in assignments]
    rows = []
    for groups in range(clusters - 1, 1, -1):
        before = [step for steps in runs for step in steps if step.groups == groups + 1]
        after = [step for steps in runs for step in steps if step.groups == groups]
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


def merging_alone(curve: list[dict[str, float]]) -> int | None:
    """The number of groups with the highest mean of stability and modularity; None for an empty curve.

    Neither would do alone: groups can be merged further in one and the same way, and the modularity favours too many.
    """
    if not curve:
        return None
    return int(max(curve, key=lambda row: (row["stability"] + row["modularity"], -row["groups"]))["groups"])
