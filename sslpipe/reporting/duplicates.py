"""Sets of images that are equal, or nearly so."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sslpipe.data.store import SPLITS, UNKNOWN
from sslpipe.reporting.encoding import rounded
from sslpipe.reporting.neighbors import Similar
from sslpipe.reporting.shown_images import ShownImages

MIN_COSINE = 0.9
"""Least cosine of the features of near duplicates (own choice, with the next two: all of the 30 pairs that they find
among 10,000 CIFAR-10 images, in the features of two published networks, were copies with other brightness, crop or
frame)."""
MIN_CORRELATION = 0.9
"""Least correlation of their pixels, of images reduced to 16 × 16."""
SHARE_OF_TYPICAL = 0.2
"""One minus the correlation is at most this share of what it typically (in the median) is for nearest neighbours: among
images that are all alike, such as digits, similar ones are not taken for copies."""
NEARLY = 0.9999
"""Highest similarity of images whose pixels are not all equal, as it is rounded."""
MOST = 500
"""Sets that are listed (own choice)."""
ROWS = 4096


def find_duplicates(
    images: ShownImages, similar: Similar, pixels: NDArray[np.float32]
) -> tuple[list[dict[str, Any]], str, str | None]:
    """Return the sets of duplicates, a sentence on how they were found, and a note if not all are listed.

    pixels: [N, P], of the reduced images. Sets across splits are first, among them those with test images, then those
    of several classes, then by similarity, which is the least correlation of the pairs that connect a set; 1 for equal
    pixels.
    """
    first, second, correlation, least = _pairs(similar, pixels)
    equal = pixel_groups(images)
    near = equal[first] != equal[second]
    first, second, correlation = first[near], second[near], np.minimum(correlation[near], NEARLY)
    order = np.argsort(equal, kind="stable")
    same = np.flatnonzero(np.diff(equal[order]) == 0)
    first = np.concatenate([order[same], first])
    second = np.concatenate([order[same + 1], second])
    correlation = np.concatenate([np.ones(len(same)), correlation])
    sets = [_described(images, *each) for each in _connected(len(images), first, second, correlation)]
    sets.sort(
        key=lambda found: (
            len(found["splits"]) == 1,
            "test" not in found["splits"],
            not found["conflict"],
            -found["similarity"],
            found["images"],
        )
    )
    how = (
        f"Equal pixels, or neighbours with a cosine of at least {MIN_COSINE:g} and a correlation of their pixels, "
        f"reduced to 16 × 16, of at least {least:.3g}; a set is connected by such pairs."
    )
    note = f"Of {len(sets):,} sets of duplicates, the first {MOST} are listed." if len(sets) > MOST else None
    return sets[:MOST], how, note


def pixel_groups(images: ShownImages) -> NDArray[np.int64]:
    """Return a number for each image, [N], which equal images share."""
    digests = [hashlib.blake2b(image, digest_size=16).digest() for chunk in images.chunks(ROWS) for image in chunk]
    numbers = np.unique(np.array(digests, dtype="V16"), return_inverse=True)[1]
    return numbers.reshape(-1).astype(np.int64)


def _pairs(
    similar: Similar, pixels: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], float]:
    """Return the near duplicates among neighbours: indices [P] and [P], correlations [P], and the least correlation."""
    unit = pixels - pixels.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.divide(unit, np.where(norm > 1e-6, norm, np.inf))
    if not similar.index.shape[1]:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0), MIN_CORRELATION
    nearest = _correlations(unit, np.arange(len(unit)), similar.index[:, 0])
    least = max(MIN_CORRELATION, 1 - SHARE_OF_TYPICAL * (1 - float(np.median(nearest))))
    first, rank = np.nonzero(similar.cosine >= MIN_COSINE)
    second = similar.index[first, rank]
    correlation = _correlations(unit, first, second)
    kept = correlation >= least
    return first[kept].astype(np.int64), second[kept], correlation[kept], least


def _correlations(
    unit: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    parts = [
        np.einsum("np,np->n", unit[first[i : i + ROWS]], unit[second[i : i + ROWS]], dtype=np.float64)
        for i in range(0, len(first), ROWS)
    ]
    return np.concatenate([np.zeros(0), *parts])


def _connected(
    count: int, first: NDArray[np.int64], second: NDArray[np.int64], correlation: NDArray[np.float64]
) -> list[tuple[list[int], float]]:
    """Return the images of each connected set of two or more, ascending, and the least correlation of its pairs."""
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    number, part = connected_components(graph, directed=False)
    least = np.ones(number)
    np.minimum.at(least, part[first], correlation)
    order = np.argsort(part, kind="stable")
    size = np.bincount(part, minlength=number)
    stops = np.cumsum(size)
    return [
        (order[stops[each] - size[each] : stops[each]].tolist(), float(least[each]))
        for each in np.flatnonzero(size > 1).tolist()
    ]


def _described(images: ShownImages, found: list[int], similarity: float) -> dict[str, Any]:
    labels = set(images.label[found].tolist()) - {UNKNOWN}
    splits = [SPLITS[each] for each in sorted(set(images.split[found].tolist()))]
    return {"images": found, "similarity": rounded(similarity), "splits": splits, "conflict": len(labels) > 1}
