"""Typical images: those in the densest place of their group (TypiClust, arXiv:2202.02794), and near k-means centres."""

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin


def typicality(
    neighbors: NDArray[np.int64], cosine: NDArray[np.floating], group: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Return how typical each image is, [N]: 1 / its mean distance to its neighbours (TypiClust, eq. 1).

    neighbors, cosine: [N, k], of unit vectors. group: [N]; if given, only neighbours of the image's own group count,
    and the result is multiplied by their share, so that an image with one near neighbour in its group is not before
    one with many. Copies, at a distance of 0, are taken to be at 1e-6.
    """
    distance = np.sqrt(np.maximum(2 - 2 * cosine.astype(np.float64), 1e-12))
    own = np.ones(neighbors.shape, bool) if group is None else group[neighbors] == group[:, None]
    count = own.sum(axis=1)
    mean = np.divide((distance * own).sum(axis=1), count, out=np.full(len(count), np.inf), where=count > 0)
    result: NDArray[np.float64] = count / neighbors.shape[1] / mean
    return result


def most_typical(
    group: NDArray[np.int64],
    typical: NDArray[np.float64],
    labelled: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
) -> Iterator[int]:
    """Yield the most typical image of each group without a labelled image, the largest group first.

    group: [N]. typical: [N], see `typicality`. labelled, allowed: [N]. Among equals the lowest group, and the lowest
    image, is first. A group without an allowed image is left out.
    """
    size = np.bincount(group)
    known = np.bincount(group, weights=labelled, minlength=len(size)) > 0
    for each in np.lexsort((np.arange(len(size)), -size)).tolist():
        inside = np.flatnonzero((group == each) & allowed)
        if len(inside) and not known[each]:
            yield int(inside[typical[inside].argmax()])


def nearest_to_centres(unit: NDArray[np.floating], count: int, *, seed: int) -> NDArray[np.int64]:
    """Return the image nearest to each of `count` k-means centres, [count], without repeats (arXiv:2401.14555).

    unit: [N, D], L2-normalised. It is another choice for each count: no beginning of it is one for a smaller budget.
    Raises ValueError for more centres than images.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct images than centres
        centre = KMeans(count, n_init=3, random_state=seed).fit(unit).cluster_centers_
    chosen: list[int] = []
    for place, image in enumerate(pairwise_distances_argmin(centre, unit).tolist()):
        if image in chosen:  # two centres with one nearest image
            order = np.argsort(((unit - centre[place]) ** 2).sum(axis=1), kind="stable")
            image = next(int(other) for other in order if other not in chosen)
        chosen.append(image)
    return np.array(chosen, dtype=np.int64)
