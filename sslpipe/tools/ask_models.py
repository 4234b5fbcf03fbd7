"""What models say of the training images, for the choice of questions: groups, and calibrated probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from sslpipe.data.images import Images
from sslpipe.data.store import Split, Store
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.stages import CLUSTER_STAGES, LABELLED_STAGES
from sslpipe.io.text import counted
from sslpipe.metrics.temperature import temperature_of
from sslpipe.nets.backbone_fingerprint import backbone_fingerprint
from sslpipe.nets.inference import head_probabilities, probabilities
from sslpipe.nets.model_file import check_data, load_model
from sslpipe.nets.model_paths import CARD
from sslpipe.running.features import StoredFeatures

GROUPS = ("self-label", "cluster")
"""Folders under runs/ with a model of groups, the first one that is there is used."""
CLASSIFIERS = ("semisup/propagation", "semisup/voting_probes", "finetune/linear")
"""Folders under runs/ with a classifier, the first one that is there is used."""
LEAST = 1e-12
"""Probability below which a logarithm is not taken."""

FITTED = 5000
"""Most images that a temperature is fitted to (own choice: their mean confidence differs from that of all by less than
an accuracy on some hundred held-out images deviates)."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for the images of the store."""

    folder: Path
    classes: tuple[str, ...]
    """Names of its outputs; () for a model of groups."""
    train: NDArray[np.float32]
    """[N, K], probabilities for the training images."""
    held_out: NDArray[np.float32]
    """[M, K], for the held-out images."""

    @property
    def group(self) -> NDArray[np.int64]:
        """The group of each training image, [N]."""
        group: NDArray[np.int64] = self.train.argmax(axis=1).astype(np.int64)
        return group

    def name(self, output: int) -> str:
        """Return the name of an output: a class, or the number of a group."""
        return self.classes[output] if self.classes else str(output)


def find_outputs(
    runs: Path, given: Path | None, store: Store, stored: StoredFeatures, device: torch.device
) -> tuple[Outputs | None, Outputs | None]:
    """Return the outputs of a model of groups and of a classifier, None for one that is not there.

    given: a model that is asked for; it is the groups, or the classifier and the groups, whichever it is.
    Raises UserError for a given model that is missing, of other images or without predictions.
    """
    chosen = _outputs(given, store, stored, device) if given is not None else None
    groups = chosen or _first(runs, GROUPS, store, stored, device)
    classifier = chosen if chosen and chosen.classes else _first(runs, CLASSIFIERS, store, stored, device)
    if classifier and classifier.classes != store.classes:
        info(f"{classifier.folder}: its classes are not those of {store.root}, so its uncertainty is not used")
        classifier = None
    return groups, classifier


def _first(
    runs: Path, names: Sequence[str], store: Store, stored: StoredFeatures, device: torch.device
) -> Outputs | None:
    for folder in (runs / name for name in names):
        if (folder / CARD).exists():
            try:
                found = _outputs(folder, store, stored, device)
                # A method with few labels may have learned groups instead of classes.
                if names == GROUPS or found.classes:
                    return found
            except UserError as error:
                info(f"{folder} is not used: {error}")
    return None


def _outputs(folder: Path, store: Store, stored: StoredFeatures, device: torch.device) -> Outputs:
    """Compute a model's probabilities, from the stored features if they are those of its backbone."""
    network, card = load_model(folder)
    check_data(card, store.info, folder)
    if card.stage not in (*CLUSTER_STAGES, *LABELLED_STAGES):
        raise UserError(f"{folder}: predicts neither classes nor clusters, expected a model such as runs/self-label")
    network.to(device).eval()
    known = backbone_fingerprint(folder) == stored.backbone

    def predicted(split: Split) -> NDArray[np.float32]:
        if not store.info.count(split):
            return np.zeros((0, 1), np.float32)
        if known:
            return head_probabilities(network, stored.tensor(split, device))
        return probabilities(network, Images(store.images(split), device))

    return Outputs(folder, tuple(card.classes or ()), predicted("train"), predicted("held_out"))


def standard_error(share: float, count: int) -> float:
    """Return the standard error of a share of `count` images, with two right and two wrong ones added.

    So few images that are all right do not seem to be certain (Agresti and Coull 1998).
    """
    near = (share * count + 2) / (count + 4)
    return float(np.sqrt(near * (1 - near) / (count + 4)))


def held_out_line(outputs: Outputs, label: NDArray[np.int64]) -> tuple[str, float | None]:
    """Return a line on a classifier's accuracy on random held-out images, and the accuracy; None without labels.

    label: [M], UNKNOWN (-1) for an image without a label, or one that is not a random one.
    """
    known = label >= 0
    if not known.any():
        return f"{outputs.folder}: no random held-out image has a label, so its accuracy is not known", None
    right = outputs.held_out[known].argmax(axis=1) == label[known]
    share, count = float(right.mean()), int(known.sum())
    deviation = standard_error(share, count)
    return (
        f"{outputs.folder}: accuracy {share:.3f} ± {deviation:.3f} on {counted(count, 'random held-out image')}, "
        "which no model was trained on",
        share,
    )


def calibrated(probability: NDArray[np.floating], confidence: float) -> NDArray[np.float64]:
    """Return the probabilities [N, C] with the temperature that makes their mean confidence equal to a value.

    Of more than FITTED images, this is so for about FITTED, evenly spaced: 50,000 with 100 classes would take 10 s.
    """
    scores = np.log(np.maximum(probability.astype(np.float64), LEAST))
    temperature = temperature_of(scores[:: -(-len(scores) // FITTED)], confidence)
    result: NDArray[np.float64] = softmax(scores / temperature, axis=1)
    return result
