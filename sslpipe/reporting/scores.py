"""Tables of a model's predictions for the images that evaluate scores: confusion, classes, calibration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.metrics.classification import calibration_error
from sslpipe.metrics.clustering import contingency
from sslpipe.metrics.mappings import UNMAPPED
from sslpipe.reporting.encoding import rounded
from sslpipe.reporting.predictions import Prediction
from sslpipe.reporting.shown_images import ShownImages

BINS = 15
"""Bins of the calibration, of equal width over the confidence (Guo et al. 2017, arXiv:1706.04599)."""


def score_part(
    prediction: Prediction, images: ShownImages, mapping: NDArray[np.int64], names: Sequence[str | None]
) -> dict[str, Any]:
    """Return confusion, perClass and calibration of a model; None for each if no scored image has a label.

    mapping: class of each output, [K], UNMAPPED (-1) for none. names: of the outputs. Calibration is a classifier's.
    """
    chosen = images.scored & images.known
    if not chosen.any():
        return {"confusion": None, "perClass": None, "calibration": None}
    label, probability = images.label[chosen], prediction.probability[chosen]
    output, classes = probability.argmax(axis=1), images.store.classes
    counts = contingency(output, label, n_clusters=len(names), n_classes=len(classes)).T
    noun = "Class" if prediction.is_classifier else "Group"
    # Columns in the order of the classes, so that what is right lies on the diagonal; outputs without a class are last.
    outputs = np.argsort(np.where(mapping == UNMAPPED, len(classes), mapping), kind="stable").tolist()
    return {
        "confusion": {
            "rows": list(classes),
            "columns": [names[i] if names[i] is not None else f"{noun} {i}" for i in outputs],
            "outputs": outputs,
            "counts": counts[:, outputs].tolist(),
            "split": " and ".join(images.store.scored_splits).replace("_", "-"),
        },
        "perClass": class_rows(counts, mapping, classes),
        "calibration": calibration(probability, label) if prediction.is_classifier else None,
    }


def class_rows(counts: NDArray[np.int64], mapping: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return images, precision, recall and F1 of each class; None where the denominator is 0.

    counts: [classes, outputs]. mapping: class of each output, [outputs]. Images of outputs that are UNMAPPED are
    missed by every class.
    """
    rows = []
    for each, name in enumerate(classes):
        own = counts[:, mapping == each]
        right, predicted, images = int(own[each].sum()), int(own.sum()), int(counts[each].sum())
        rows.append(
            {
                "name": name,
                "images": images,
                "precision": rounded(right / predicted) if predicted else None,
                "recall": rounded(right / images) if images else None,
                "f1": rounded(2 * right / (predicted + images)) if predicted + images else None,
            }
        )
    return rows


def calibration(probability: NDArray[np.float32], label: NDArray[np.int64]) -> dict[str, Any]:
    """Return confidence and accuracy in each bin of confidence, and the expected calibration error.

    probability: [N, classes]. label: [N], all known. A bin includes its upper edge; an empty one has None for both.
    """
    confidence = probability.max(axis=1).astype(np.float64)
    correct = probability.argmax(axis=1) == label
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins = []
    for each in range(BINS):
        inside = place == each
        count = int(inside.sum())
        bins.append(
            {
                "low": rounded(each / BINS),
                "high": rounded((each + 1) / BINS),
                "count": count,
                "confidence": rounded(confidence[inside].mean()) if count else None,
                "accuracy": rounded(correct[inside].mean()) if count else None,
            }
        )
    return {"bins": bins, "ece": rounded(calibration_error(probability, label, bins=BINS))}
