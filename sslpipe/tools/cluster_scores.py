"""Scores of a number of clusters that need no label, and what they say together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_samples

Floats = NDArray[np.float64]
SCORES = ("agreement", "stability", "silhouette")


@dataclass(frozen=True)
class Scores:
    """Of one number of clusters, for H heads that differ in their start alone; each score is 1 at best."""

    agreement: Floats
    """[H, M] of held-out images: how far their neighbours share their cluster, above chance."""
    stability: Floats
    """[H, H]: adjusted Rand index of each two heads on training images."""
    silhouette: Floats
    """[H, S] of sampled training images."""
    loss: float
    """Eq. 2's first term on held-out neighbours, mean over heads: no score, it grows with the number of clusters."""
    used: float
    """Clusters that hold a training image, mean over heads."""

    def means(self) -> dict[str, float]:
        """Each of the three scores over heads and images."""
        return {name: float(values[:, 0].mean()) for name, values in zip(SCORES, self._drawn(None), strict=True)}

    def mean(self) -> float:
        """The score that is compared: the mean of the three."""
        return float(np.mean(list(self.means().values())))

    def resampled(self, images: "Resampled") -> Floats:
        """[R] the mean of the three scores of one head drawn at random, on images drawn with replacement."""
        draws = np.arange(len(images.head))
        agreement, stability, silhouette = (values[images.head, draws] for values in self._drawn(images))
        return (agreement + stability + silhouette) / 3

    def _drawn(self, images: "Resampled | None") -> tuple[Floats, Floats, Floats]:
        """[H, R] of each score on the drawn images, R = 1 and all images for None."""
        if images is None:
            agreement = self.agreement.mean(axis=1, keepdims=True)
            silhouette = self.silhouette.mean(axis=1, keepdims=True)
        else:
            agreement, silhouette = self.agreement @ images.held_out.T, self.silhouette @ images.train.T
        heads = len(self.stability)
        others = (self.stability.sum(axis=1) - self.stability.diagonal()) / (heads - 1)
        return agreement, np.broadcast_to(others[:, None], agreement.shape), silhouette


@dataclass(frozen=True)
class Resampled:
    """R draws, the same for every number of clusters."""

    held_out: Floats
    """[R, M] share of each held-out image in a draw with replacement."""
    train: Floats
    """[R, S] likewise of the silhouette's images."""
    head: NDArray[np.int64]
    """[R] a head."""


def resample(scores: Scores, draws: int, rng: np.random.Generator) -> Resampled:
    """Draws for `Scores.resampled` of as many heads and images as `scores` has."""
    heads, held_out = scores.agreement.shape
    train = scores.silhouette.shape[1]
    return Resampled(
        rng.multinomial(held_out, np.full(held_out, 1 / held_out), size=draws) / held_out,
        rng.multinomial(train, np.full(train, 1 / train), size=draws) / train,
        rng.integers(heads, size=draws),
    )


def agreement(assignment: NDArray[Any], neighbors: NDArray[Any], clusters: int) -> Floats:
    """[M] share of each image's nearest images that are in its cluster, less what chance gives, Σ_c share_c².

    assignment: [M]. neighbors: [M, n] nearest first, n as large as M / (2·clusters) or all there are: counted are the
    M / (2·clusters) nearest, half of what a cluster of average size holds. So the measure is the same for few and for
    many images, where a fixed number of ever nearer images would forgive ever more splits (own choice). Its mean is the
    modularity of the graph of neighbours: 0 for one cluster, at most 1 - 1 / clusters for equal ones.
    """
    count = len(assignment)
    nearest = neighbors[:, : neighbors_counted(count, clusters)]
    share = np.bincount(assignment, minlength=clusters) / count
    same: Floats = (assignment[nearest] == assignment[:, None]).mean(axis=1)
    return same - float((share**2).sum())


def neighbors_counted(count: int, clusters: int) -> int:
    """M / (2·clusters), rounded, at least one and at most M - 1."""
    return max(1, min(count - 1, round(count / (2 * clusters))))


def stability(assignments: NDArray[Any]) -> Floats:
    """[H, H] adjusted Rand indices (Hubert and Arabie 1985) of assignments [H, N]; 1 on the diagonal."""
    heads = len(assignments)
    matrix = np.eye(heads)
    for a in range(heads):
        for b in range(a):
            matrix[a, b] = matrix[b, a] = adjusted_rand_score(assignments[a], assignments[b])
    return matrix


def mean_stability(assignments: NDArray[Any]) -> float:
    """Mean of `stability` over pairs of different heads."""
    matrix, heads = stability(assignments), len(assignments)
    return float((matrix.sum() - heads) / (heads * (heads - 1)))


def silhouette(distances: Floats, assignment: NDArray[Any]) -> Floats:
    """[S] of each image, (b - a) / max(a, b): a its mean distance to its own cluster, b to the nearest other cluster.

    distances: [S, S], 0 on the diagonal. assignment: [S]. Rousseeuw 1987; 0 for all where images lie in one cluster or
    each in its own.
    """
    if not 2 <= len(np.unique(assignment)) < len(assignment):
        return np.zeros(len(assignment))
    return silhouette_samples(distances, assignment, metric="precomputed")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Suggestion:
    """What the scores say together."""

    suggested: int
    """The number of clusters with the highest mean score."""
    low: int
    high: int
    """The lowest and highest of those that are about as good, or that other draws or one score would choose."""
    score: float
    """Of the suggestion."""
    alone: dict[str, int]
    """The number that each score would choose."""


def suggest(
    scores: Mapping[int, Scores], *, near: float, draws: int, confidence: float, rng: np.random.Generator
) -> Suggestion:
    """The number of clusters with the highest mean of agreement, stability and silhouette, and how sure that is.

    scores: number of clusters → its scores, all with as many heads and the same images. The interval holds every number
    whose score is at most `near` below the best, what each of the three scores alone would choose, and the answers of
    `confidence` of the draws (of the images with replacement and of a single head: a bootstrap, Efron 1979). It tells
    what other images of the same kind and another start would say, not whether the groups are those a person means.
    """
    counts = np.array(sorted(scores))
    means = {int(count): scores[int(count)].means() for count in counts}
    total = {count: float(np.mean(list(values.values()))) for count, values in means.items()}
    suggested = max(total, key=lambda count: (total[count], -count))
    images = resample(scores[suggested], draws, rng)
    chosen = counts[np.stack([scores[int(count)].resampled(images) for count in counts]).argmax(axis=0)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(chosen, [tail, 1 - tail], method="inverted_cdf")
    alone = {name: max(means, key=lambda count: (means[count][name], -count)) for name in SCORES}
    within = [int(low), int(high), *alone.values()]
    within += [count for count, value in total.items() if value >= total[suggested] - near]
    return Suggestion(suggested, min(within), max(within), total[suggested], alone)
