"""Scores of a number of clusters that need no labels, and the number that they suggest together."""

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
    """Scores of one number of clusters, for H heads that differ only in their initial weights; the best score is 1."""

    agreement: Floats
    """[H, M] for held-out images: share of neighbours in the image's cluster, above chance."""
    stability: Floats
    """[H, H]: adjusted Rand index of each pair of heads on training images."""
    silhouette: Floats
    """[H, S] for sampled training images."""
    loss: float
    """First term of eq. 2 of SCAN (arXiv:2005.12320) on held-out neighbours, mean over heads; not a score, since it
    increases with the number of clusters."""
    used: float
    """Number of clusters with a training image, mean over heads."""

    def means(self) -> dict[str, float]:
        """Return each of the three scores, averaged over heads and images."""
        values = (self.agreement.mean(axis=1), self._stabilities(), self.silhouette.mean(axis=1))
        return {name: float(each.mean()) for name, each in zip(SCORES, values, strict=True)}

    def mean(self) -> float:
        """Return the mean of the three scores, by which numbers of clusters are compared."""
        return float(np.mean(list(self.means().values())))

    def resampled(self, images: "Resampled") -> Floats:
        """Return the mean of the three scores for R bootstrap samples, each of one head and of some images, [R]."""
        draws = np.arange(len(images.head))
        agreement = (self.agreement @ images.held_out.T)[images.head, draws]
        silhouette = (self.silhouette @ images.train.T)[images.head, draws]
        return (agreement + self._stabilities()[images.head] + silhouette) / 3

    def _stabilities(self) -> Floats:
        """Return the mean adjusted Rand index of each head and the others, [H]."""
        others: Floats = (self.stability.sum(axis=1) - self.stability.diagonal()) / (len(self.stability) - 1)
        return others


@dataclass(frozen=True)
class Resampled:
    """R bootstrap samples, used for every number of clusters."""

    held_out: Floats
    """[R, M]: weight of each held-out image in a sample with replacement."""
    train: Floats
    """[R, S]: weight of each of the silhouette's images in a sample with replacement."""
    head: NDArray[np.int64]
    """[R]: the head of each sample."""


def resample(scores: Scores, draws: int, rng: np.random.Generator) -> Resampled:
    """Draw bootstrap samples for `Scores.resampled`, of the heads and images of `scores`."""
    heads, held_out = scores.agreement.shape
    train = scores.silhouette.shape[1]
    return Resampled(
        rng.multinomial(held_out, np.full(held_out, 1 / held_out), size=draws) / held_out,
        rng.multinomial(train, np.full(train, 1 / train), size=draws) / train,
        rng.integers(heads, size=draws),
    )


def agreement(assignment: NDArray[Any], neighbors: NDArray[Any], clusters: int) -> Floats:
    """Return the share of each image's neighbours that are in its cluster, minus the chance level Σ_c share_c², [M].

    assignment: [M]. neighbors: [M, n], nearest first, n at least M / (2·clusters) if there are as many. Only the M /
    (2·clusters) nearest images are used, half the size of an average cluster, so that the score does not depend on the
    number of images; a fixed number of neighbours would penalise splits less with more images (own choice). The mean is
    the modularity of the graph of neighbours: 0 for one cluster, at most 1 - 1 / clusters for clusters of equal size.
    """
    count = len(assignment)
    nearest = neighbors[:, : neighbors_counted(count, clusters)]
    share = np.bincount(assignment, minlength=clusters) / count
    same: Floats = (assignment[nearest] == assignment[:, None]).mean(axis=1)
    return same - float((share**2).sum())


def neighbors_counted(count: int, clusters: int) -> int:
    """Return the number of neighbours that `agreement` uses: M / (2·clusters), rounded, at least 1, at most M - 1."""
    return max(1, min(count - 1, round(count / (2 * clusters))))


def stability(assignments: NDArray[Any]) -> Floats:
    """Return the adjusted Rand indices (Hubert and Arabie 1985) of pairs of assignments [H, N]: [H, H]."""
    heads = len(assignments)
    matrix = np.eye(heads)
    for a in range(heads):
        for b in range(a):
            matrix[a, b] = matrix[b, a] = adjusted_rand_score(assignments[a], assignments[b])
    return matrix


def mean_stability(assignments: NDArray[Any]) -> float:
    """Return the mean of `stability` over pairs of different heads."""
    matrix, heads = stability(assignments), len(assignments)
    return float((matrix.sum() - heads) / (heads * (heads - 1)))


def silhouette(distances: Floats, assignment: NDArray[Any]) -> Floats:
    """Return the silhouette of each image (Rousseeuw 1987), [S].

    It is (b - a) / max(a, b) for the mean distances a to the image's own and b to the nearest other cluster; it is 0 if
    there is only one cluster or each image has its own. distances: [S, S], 0 on the diagonal. assignment: [S].
    """
    if not 2 <= len(np.unique(assignment)) < len(assignment):
        return np.zeros(len(assignment))
    return silhouette_samples(distances, assignment, metric="precomputed")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Suggestion:
    """A suggested number of clusters, with an interval."""

    suggested: int
    """The number of clusters with the highest mean score."""
    low: int
    """Lower end of the interval."""
    high: int
    """Upper end of the interval."""
    score: float
    """Mean score of the suggested number."""
    per_score: dict[str, int]
    """The best number by each of the three scores."""


def suggest(
    scores: Mapping[int, Scores], *, tolerance: float, draws: int, confidence: float, rng: np.random.Generator
) -> Suggestion:
    """Return the number of clusters with the highest mean of agreement, stability and silhouette, with an interval.

    scores: scores of each number of clusters, all with the same number of heads and the same images. The interval
    contains every number whose score is at most `tolerance` below the best, the best number by each of the three
    scores, and the central `confidence` of the best numbers of `draws` bootstrap samples (of images with replacement
    and of one head; Efron 1979). It shows how the suggestion depends on the images and the initial weights, not whether
    the clusters are the intended ones.
    """
    counts = np.array(sorted(scores))
    means = {int(count): scores[int(count)].means() for count in counts}
    total = {count: scores[count].mean() for count in means}
    suggested = max(total, key=lambda count: (total[count], -count))
    images = resample(scores[suggested], draws, rng)
    chosen = counts[np.stack([scores[int(count)].resampled(images) for count in counts]).argmax(axis=0)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(chosen, [tail, 1 - tail], method="inverted_cdf")
    per_score = {name: max(means, key=lambda count: (means[count][name], -count)) for name in SCORES}
    within = [int(low), int(high), *per_score.values()]
    within += [count for count, value in total.items() if value >= total[suggested] - tolerance]
    return Suggestion(suggested, min(within), max(within), total[suggested], per_score)
