"""How good the project is at naming images: before a run by the names of groups, and after it by the classifier."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslpipe.asking.questions import RANDOM_REASON
from sslpipe.data.store import UNKNOWN
from sslpipe.labelling.collection import Collection
from sslpipe.labelling.label_tables import cluster_names, held_back
from sslpipe.labelling.state import LabelState
from sslpipe.tools.ask_models import standard_error
from sslpipe.tools.asker import KnownLabels


@dataclass(frozen=True)
class Prediction:
    """What each image is called, by a classifier or by the name of its group."""

    source: str
    """The model, as a person knows it."""
    train: tuple[str, ...]
    """[N], the name of each training image; "" for none."""
    held_out: tuple[str, ...]
    """[M], the same of the held-out images."""
    confidence: NDArray[np.float64]
    """[N]."""


def predicted(collection: Collection, state: LabelState) -> Prediction:
    """Return what the classifier calls each image; without a classifier the name of its cluster."""
    groups, classifier = collection.asker.groups, collection.asker.classifier
    if classifier is not None:
        names = [
            tuple(classifier.name(output) for output in outputs.argmax(axis=1).tolist()) if len(outputs) else ()
            for outputs in (classifier.train, classifier.held_out)
        ]
        return Prediction(str(classifier.folder), names[0], names[1], classifier.train.max(axis=1).astype(np.float64))
    called = cluster_names(state)
    held_out = groups.held_out.argmax(axis=1).tolist() if groups and len(groups.held_out) else []
    return Prediction(
        f"names of the groups of {groups.folder}" if groups else "no model",
        tuple(state.groups.get(part, "") for part in state.part.tolist()),
        tuple(called.get(cluster, "") for cluster in held_out),
        collection.confidence,
    )


def random_held_out(state: LabelState) -> list[int]:
    """Return the held-out images with a label that are random: those asked at random, or all if all have labels."""
    labels = state.labels()
    known = [image for image in range(state.train, len(state.files)) if image in labels]
    if len(known) == len(state.files) - state.train:
        return known
    return [image for image in known if _reason(state, image) == RANDOM_REASON]


def _reason(state: LabelState, image: int) -> str:
    given, row = state.given.get(image), state.rows.get(state.files[image])
    return given.reason if given else row.reason if row else ""


def accuracy(prediction: Prediction, state: LabelState) -> dict[str, Any]:
    """Return the share of random held-out images with a label that a prediction gets right, as the page shows it.

    A class that the model does not know is wrong. deviation: its `standard_error`.
    """
    labels, images = state.labels(), random_held_out(state)
    answers = sum(given.how != "edit" for given in state.given.values())
    result: dict[str, Any] = {"source": prediction.source, "answers": answers, "count": len(images)}
    if not images:
        return {**result, "accuracy": None, "deviation": None}
    share = sum(prediction.held_out[image - state.train] == labels[image] for image in images) / len(images)
    return {**result, "accuracy": share, "deviation": standard_error(share, len(images))}


def known_labels(collection: Collection, state: LabelState, *, written: bool = False) -> tuple[KnownLabels, set[int]]:
    """Return the labels as questions are chosen from them, and the training images whose label was checked before.

    written: without those that the table of labels does not have yet, see `held_back`.
    """
    labels = state.labels()
    for image in held_back(state) if written else ():
        del labels[image]
    names = tuple(dict.fromkeys([*collection.store.classes, *labels.values()]))
    place = {name: i for i, name in enumerate(names)}
    known = np.full(len(state.files), UNKNOWN, np.int64)
    skipped = np.zeros(len(state.files), bool)
    random = np.full(len(state.files), UNKNOWN, np.int64)
    for image, label in labels.items():
        known[image] = place[label]
    skipped[list(state.skipped)] = True
    chosen = [image for image in random_held_out(state) if image in labels]
    random[chosen] = known[chosen]
    train = state.train
    given = KnownLabels(
        train=known[:train],
        held_out=known[train:],
        random=random[train:],
        names=names,
        skipped_train=skipped[:train],
        skipped_held_out=skipped[train:],
    )
    return given, {image for image in range(train) if _checked(state, image)}


def _checked(state: LabelState, image: int) -> bool:
    """Whether an image had a label and was asked for again."""
    row = state.rows.get(state.files[image])
    if row is None:
        return False
    return bool(row.question and row.before) or (not row.question and (image in state.given or image in state.skipped))


def suggested(collection: Collection, state: LabelState, image: int) -> str | None:
    """Return the class that an image probably has; none for held-out images, whose labels no model may influence."""
    if image >= state.train:
        return None
    if collection.asker.classifier is not None:
        return collection.asker.suggested(image)
    return state.groups.get(int(state.group[image])) or None
