"""Images whose label their neighbours contradict: confident learning (Northcutt et al. 2021, arXiv:1911.00068)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.neighbors.search import nearest_neighbors
from sslpipe.reporting.encoding import rounded
from sslpipe.reporting.neighbors import Similar
from sslpipe.reporting.shown_images import ShownImages

VOTERS = 20
"""Labelled neighbours that vote (own choice)."""
MOST = 500
"""Images that are listed (own choice)."""
ROWS = 4096
KEPT = 1 << 24
"""Most probabilities that are kept between two passes over them; more are computed twice."""
PENALTY = 1e-2
"""Ridge penalty of the linear classifier, for each image (own choice): with 2 % of 10,000 CIFAR-10 labels changed, in
the features of two published networks, 73 of the first 100 are changed ones; by votes alone 63."""
HOW = (
    "Confident learning (Northcutt et al. 2021, arXiv:1911.00068). An image's probability of a class is the mean of "
    "two, both without its own label: the votes of the {voters} most similar images with a label, and a linear "
    "classifier on the features, fitted to the others. Listed are images that, by these, belong to another class at "
    "least as surely as its own images do on average. The score is 1 if everything speaks for the other class, and 0.5 "
    "if both are equal."
)


def find_label_doubts(
    images: ShownImages, similar: Similar, device: torch.device
) -> tuple[list[dict[str, Any]] | None, str, str | None]:
    """Return doubtful labels, the most doubtful first, how they were found, and a note on what is left out.

    None if labels of fewer than two classes are known, or of no more images than there are voters.
    """
    known = np.flatnonzero(images.known)
    label = images.label[known]
    if len(np.unique(label)) < 2 or len(known) <= VOTERS:
        reason = "labels of two classes are needed, and more labelled images than vote"
        return None, f"Not searched: {reason}.", f"Doubtful labels are left out: {reason}."
    if len(known) == len(images) and similar.index.shape[1] >= VOTERS:
        index, cosine = similar.index[:, :VOTERS], similar.cosine[:, :VOTERS]
    else:
        index, cosine = nearest_neighbors(similar.vectors[known], k=VOTERS, device=device)
    given = Labelled(label, similar.vectors[known], index, cosine, len(images.store.classes))
    doubtful, suggested, margin = doubts(given)
    order = np.lexsort((doubtful, margin))
    listed = [
        {
            "image": int(known[doubtful[i]]),
            "given": int(label[doubtful[i]]),
            "suggested": int(suggested[i]),
            "score": rounded((1 - margin[i]) / 2),
        }
        for i in order[:MOST]
    ]
    note = f"Of {len(order):,} doubtful labels, the first {MOST} are listed." if len(order) > MOST else None
    return listed, HOW.format(voters=VOTERS), note


@dataclass(frozen=True)
class Labelled:
    """N images with known labels."""

    label: NDArray[np.int64]
    """[N], from 0 to classes - 1."""
    vectors: NDArray[np.float32]
    """[N, D], their features."""
    index: NDArray[np.int64]
    """[N, k], neighbours among these images, without the image itself."""
    cosine: NDArray[np.float32]
    """[N, k]."""
    classes: int


def doubts(given: Labelled) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the images off the diagonal of the confident joint, their classes there and normalised margins, [D] each.

    t(j) is the mean probability p(j) of the images that are labelled j. An image counts to the class with the highest
    p(j) among those with p(j) ≥ t(j) (section 3.1, eq. 1 and 2), the lowest class among equals. The margin, from -1
    to 1, is p(label) − max p(j) over other classes j.
    """
    label, classes = given.label, given.classes
    kept = tuple(probabilities(given)) if len(label) * classes <= KEPT else None
    own = np.concatenate([rows[np.arange(len(rows)), label[part]] for part, rows in kept or probabilities(given)])
    size = np.bincount(label, minlength=classes)
    # A class without images has no threshold, so that none counts to it.
    threshold = np.divide(
        np.bincount(label, weights=own, minlength=classes), size, where=size > 0, out=np.full(classes, np.inf)
    )
    found: list[tuple[NDArray[Any], ...]] = []
    for part, rows in kept or probabilities(given):
        place = np.arange(len(rows))
        counted = np.where((rows >= threshold - 1e-12) & (rows > 0), rows, -1)
        joint = counted.argmax(axis=1)
        off = (counted.max(axis=1) > 0) & (joint != label[part])
        others = rows.copy()
        others[place, label[part]] = -1
        margin = rows[place, label[part]] - others.max(axis=1)
        found.append((np.arange(len(label))[part][off], joint[off], margin[off]))
    doubtful, suggested, margins = (np.concatenate(each) for each in zip(*found, strict=True))
    return doubtful, suggested, margins


def probabilities(given: Labelled) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices of images and their probabilities of the classes, [rows, classes], without their own labels.

    They are the mean of the neighbours' votes, each of which counts its cosine, and of the predictions of ridge
    regression on one-hot labels with the image left out, negative ones set to 0.
    """
    label, classes = given.label, given.classes
    weights, inverse = _ridge(given)
    for start in range(0, len(label), ROWS):
        part = slice(start, min(start + ROWS, len(label)))
        place = np.arange(part.stop - start)
        weight = np.maximum(given.cosine[part], 1e-6).astype(np.float64)
        weight /= weight.sum(axis=1, keepdims=True)
        index = place[:, None] * classes + label[given.index[part]]
        votes = np.bincount(index.ravel(), weights=weight.ravel(), minlength=len(place) * classes)
        rows = _with_one(given.vectors[part])
        linear = rows @ weights
        # The prediction without image i is (ŷ − h·y) / (1 − h), with its leverage h.
        leverage = np.einsum("nd,de,ne->n", rows, inverse, rows, optimize=True)
        linear[place, label[part]] -= leverage
        linear = np.maximum(linear / np.maximum(1 - leverage, 1e-9)[:, None], 0)
        linear /= np.maximum(linear.sum(axis=1, keepdims=True), 1e-9)
        yield part, (votes.reshape(len(place), classes) + linear) / 2


def _ridge(given: Labelled) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of ridge regression on one-hot labels, [D + 1, classes], and (AᵀA + λI)⁻¹."""
    dimension = given.vectors.shape[1] + 1
    products, targets = np.zeros((dimension, dimension)), np.zeros((dimension, given.classes))
    for start in range(0, len(given.label), ROWS):
        rows = _with_one(given.vectors[start : start + ROWS])
        products += rows.T @ rows
        targets += (np.eye(given.classes)[given.label[start : start + ROWS]].T @ rows).T
    ridge = PENALTY * len(given.label) * np.eye(dimension)
    inverse = np.linalg.inv(products + ridge).astype(np.float64)
    return inverse @ targets, inverse


def _with_one(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.column_stack([vectors, np.ones(len(vectors))]).astype(np.float64)
