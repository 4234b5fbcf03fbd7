"""A classifier's figures: what evaluate does with each model that knows the classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.images import Images
from sslpipe.data.store import Store
from sslpipe.io.console import say
from sslpipe.metrics.grade import Grade, grade_classifier
from sslpipe.nets.inference import probabilities, rotated_votes
from sslpipe.nets.model_file import CARD, check_classes, load_model


def classifiers(runs: Path, methods: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """<stage>.<method> → folder of each model that is there; says which are not.

    methods: stage → names, as params.yaml lists them.
    """
    listed = {f"{stage}.{name}": runs / stage / name for stage, names in methods.items() for name in names}
    for name, folder in listed.items():
        if not (folder / CARD).exists():
            say(f"{name}: {folder} is not there, left out; run 'dvc repro' for all")
    return {name: folder for name, folder in listed.items() if (folder / CARD).exists()}


def score(folder: Path, store: Store, images: Images, label: NDArray[np.int64]) -> Grade:
    """Figures of the classifier in `folder` on images whose classes are `label` [N].

    The permutations of its outputs are ranked by its answers for the turned labelled images.
    """
    network, card = load_model(folder)
    check_classes(card, network, store.info, store.classes, folder)
    network.to(images.device).eval()
    index, known = store.labelled()
    votes = rotated_votes(network, Images(store.images("train")[index], images.device), known, len(store.classes))
    grade = grade_classifier(probabilities(network, images), label, store.classes, votes=votes)
    return replace(grade, facts={fact: card.settings[fact] for fact in ("start", "labels") if fact in card.settings})
