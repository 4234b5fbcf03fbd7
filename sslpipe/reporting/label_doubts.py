"""Images whose label their neighbours contradict: confident learning (Northcutt et al. 2021, arXiv:1911.00068)."""

from collections.abc import Iterator
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
HOW = (
    "Confident learning (Northcutt et al. 2021, arXiv:1911.00068) with the votes of the {voters} most similar images with "
    "a label, without the image itself: another class has as many votes as it has for its own images on average, and "
    "the difference of votes is the score. No model that was trained with these labels has a part in it."
)


def find_label_doubts(
    images: ShownImages, similar: Similar, device: torch.device
) -> tuple[list[dict[str, Any]] | None, str, str | None]:
    """Return doubtful labels, the most doubtful first, a sentence on how they were found, and a note on what is left out.

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
    doubtful, suggested, margin = doubts(label, index, cosine, len(images.store.classes))
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


def doubts(
    label: NDArray[np.int64], index: NDArray[np.int64], cosine: NDArray[np.float32], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the images off the diagonal of the confident joint, the class of each, and its normalised margin, [D] each.

    label: [N], all known. index, cosine: [N, k], neighbours among these images, without the image itself. The
    probability p(j) of a class is its share of the votes. t(j) is the mean p(j) of the images that are labelled j. An
    image counts to the class with the highest p(j) among those with p(j) ≥ t(j) (section 3.1, eq. 1 and 2), the lowest
    class among equals. The margin is p(label) − max p(j) over other classes j.
    """
    own = np.concatenate([rows[np.arange(len(rows)), label[part]] for part, rows in _votes(label, index, cosine, classes)])
    size = np.bincount(label, minlength=classes)
    # A class without images has no threshold, so that none counts to it.
    threshold = np.divide(
        np.bincount(label, weights=own, minlength=classes), size, where=size > 0, out=np.full(classes, np.inf)
    )
    found: list[tuple[NDArray[Any], ...]] = []
    for part, rows in _votes(label, index, cosine, classes):
        place = np.arange(len(rows))
        counted = np.where(rows >= threshold - 1e-12, rows, -1)
        counted[rows == 0] = -1  # a class without votes, whose own images have none either
        joint = counted.argmax(axis=1)
        off = (counted.max(axis=1) >= 0) & (joint != label[part])
        others = rows.copy()
        others[place, label[part]] = -1
        margin = rows[place, label[part]] - others.max(axis=1)
        found.append((np.arange(len(label))[part][off], joint[off], margin[off]))
    doubtful, suggested, margins = (np.concatenate(each) for each in zip(*found, strict=True))
    return doubtful, suggested, margins


def _votes(
    label: NDArray[np.int64], index: NDArray[np.int64], cosine: NDArray[np.float32], classes: int
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices of images, and the share of the votes of each class, [rows, classes]; a vote counts its cosine."""
    for start in range(0, len(label), ROWS):
        part = slice(start, min(start + ROWS, len(label)))
        count = part.stop - start
        weight = np.maximum(cosine[part], 1e-6).astype(np.float64)
        weight /= weight.sum(axis=1, keepdims=True)
        place = np.arange(count)[:, None] * classes + label[index[part]]
        votes = np.bincount(place.ravel(), weights=weight.ravel(), minlength=count * classes)
        yield part, votes.reshape(count, classes)
