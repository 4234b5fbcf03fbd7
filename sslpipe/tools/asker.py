"""Questions in memory: what `sslpipe ask` and the page of `sslpipe label` choose them from."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sslpipe.asking.questions import Known, Pool, Question, questions, uncertainty_counts
from sslpipe.data.store import UNKNOWN, Store
from sslpipe.neighbors.search import nearest_in
from sslpipe.reporting import label_doubts
from sslpipe.reporting.neighbors import Similar, find_similar
from sslpipe.running.features import StoredFeatures, open_features
from sslpipe.tools import labelled_neighbors
from sslpipe.tools.ask_models import Outputs, calibrated, find_outputs, held_out_line

NEIGHBORS = 50
"""Neighbours of each image in the kernel (own choice, on letters in typefaces and drawings: with 10 labels a linear
probe on Lite0's features has 0.69 and 0.97, with the 20 of SCAN 0.66 and 0.85, with all 0.67 and 0.92)."""
LEAST_HELD_OUT = 20
"""Labelled held-out images from which a classifier's confidence is set by its accuracy on them (own choice)."""


@dataclass(frozen=True, kw_only=True)
class KnownLabels:
    """Labels that are known of N training images and of M held-out ones: indices of `names`, UNKNOWN for none."""

    train: NDArray[np.int64]
    """[N]."""
    held_out: NDArray[np.int64]
    """[M]."""
    random: NDArray[np.int64]
    """[M], as `held_out`, but only of random images: all if all have labels, else those that were asked for."""
    names: tuple[str, ...]
    """Names of the classes."""
    skipped_train: NDArray[np.bool_] | None = None
    """[N], images that are not asked for again: a person was unsure, or no class fits; None for none."""
    skipped_held_out: NDArray[np.bool_] | None = None
    """[M], the same of held-out images."""

    @property
    def index(self) -> NDArray[np.int64]:
        """The training images with a label, [L], ascending."""
        return np.flatnonzero(self.train != UNKNOWN)


@dataclass(frozen=True)
class Asker:
    """Chooses questions; holds what does not change between them: features, neighbours, and the outputs of models.

    Images are numbered from 0 to N - 1 in train, then from N to N + M - 1 in held_out, in the order of the store.
    """

    stored: StoredFeatures
    similar: Similar
    """Neighbours of the training images among each other."""
    groups: Outputs | None
    classifier: Outputs | None
    device: torch.device
    _confident: dict[float, NDArray[np.float64]] = field(default_factory=dict, init=False, repr=False)
    """Mean confidence → calibrated probabilities of the last call."""
    _voters: list[labelled_neighbors.Found] = field(default_factory=list, init=False, repr=False)
    """The neighbours among labelled images of the last call."""

    @classmethod
    def open(
        cls, store: Store, pretrained: Path, featured: Path, runs: Path, model: Path | None, device: torch.device
    ) -> "Asker":
        """Read features and models, and search neighbours, which takes about a minute for 50,000 images.

        model: a model of groups, or a classifier; None for those under runs/. Raises UserError if features or the
        given model are missing or of other images.
        """
        stored = open_features(featured, store, pretrained)
        groups, classifier = find_outputs(runs, model, store, stored, device)
        similar = find_similar(stored.tensor("train", device), NEIGHBORS, device)
        return cls(stored, similar, groups, classifier, device)

    @cached_property
    def pool(self) -> Pool:
        """The training images as the choice of questions sees them."""
        return Pool(
            neighbors=self.similar.index,
            cosine=self.similar.cosine,
            group=self.groups.group if self.groups else None,
            group_names=self.groups.classes if self.groups else (),
        )

    def questions(
        self, labels: KnownLabels, budget: int, *, seed: int, place: int = 0, checked: Collection[int] = ()
    ) -> list[Question]:
        """Return the next questions, at most `budget`; fewer if no other image adds anything.

        place: number of questions asked before, see `sslpipe.asking.questions.questions`. checked: training images
        whose doubtful label was asked before, and is not asked again.
        """
        return questions(self.known(labels, checked), budget, seed=seed, place=place)

    def known(self, labels: KnownLabels, checked: Collection[int] = ()) -> Known:
        """Return what questions are chosen from."""
        index, given = labels.index, self._given(labels)
        classes = len(np.unique(labels.train[index]))
        free = labels.held_out == UNKNOWN
        return Known(
            pool=self.pool,
            index=index,
            classes=classes,
            skipped=labels.skipped_train,
            probability=self._probability(labels, given) if uncertainty_counts(len(index), classes) else None,
            doubtful=_doubtful(labels, given, checked) if given else (),
            held_out=free if labels.skipped_held_out is None else free & ~labels.skipped_held_out,
        )

    def accuracy(self, labels: KnownLabels) -> tuple[str, float | None] | None:
        """Return the classifier's accuracy on random held-out images, see `held_out_line`; None without classifier."""
        return held_out_line(self.classifier, self._outputs(labels)[labels.random]) if self.classifier else None

    def suggested(self, image: int) -> str | None:
        """Return the class that the classifier puts an image into; None without classifier."""
        split, place = self._place(image)
        if self.classifier is None:
            return None
        return self.classifier.name(int(getattr(self.classifier, split)[place].argmax()))

    def neighbors(self, image: int, k: int) -> list[tuple[int, float]]:
        """Return the at most k training images most similar to an image, without itself, and their cosines.

        Raises IndexError for an image that does not exist, and UserError if its features cannot be read.
        """
        split, place = self._place(image)
        count = len(self.similar.vectors)
        if split == "train" and k <= self.similar.index.shape[1]:
            index, cosine = self.similar.index[place, :k], self.similar.cosine[place, :k]
        else:
            query = self.similar.vectors[place] if split == "train" else self._held_out_vectors[place]
            most = min(k + (split == "train"), count)
            found, near = nearest_in(query[None], self.similar.vectors, k=most, device=self.device)
            other = found[0] != image
            index, cosine = found[0][other][:k], near[0][other][:k]
        return list(zip(index.tolist(), cosine.tolist(), strict=True))

    @cached_property
    def _held_out_vectors(self) -> NDArray[np.float32]:
        """[M, C], the held-out images in the space of `similar.vectors`."""
        return self.similar.project(self.stored.split("held_out"))

    def _place(self, image: int) -> tuple[str, int]:
        """Return the split of an image, and its index there."""
        train, held_out = len(self.similar.vectors), self.stored.store.info.held_out
        if not 0 <= image < train + held_out:
            raise IndexError(f"image {image} found, expected 0 to {train + held_out - 1}")
        return ("train", image) if image < train else ("held_out", image - train)

    def _given(self, labels: KnownLabels) -> label_doubts.Labelled | None:
        """Return the labelled training images with neighbours among them; None if there are too few to vote."""
        index = labels.index
        if len(index) <= label_doubts.VOTERS or len(np.unique(labels.train[index])) < 2:
            return None
        vectors, last = self.similar.vectors, self._voters[0] if self._voters else None
        found = labelled_neighbors.find(vectors, index, label_doubts.VOTERS, self.device, last)
        self._voters[:] = [found]
        return label_doubts.Labelled(labels.train[index], vectors[index], found.index, found.cosine, len(labels.names))

    def _probability(self, labels: KnownLabels, given: label_doubts.Labelled | None) -> NDArray[np.float64] | None:
        """Return the classifier's probabilities, as confident as it is accurate on labels that it has not seen."""
        if self.classifier is None:
            return None
        accuracy = self.accuracy(labels)
        share = accuracy[1] if accuracy else None
        if share is None or int((labels.random != UNKNOWN).sum()) < LEAST_HELD_OUT:
            if given is None:
                return self.classifier.train.astype(np.float64)
            right = [rows.argmax(axis=1) == given.label[part] for part, rows in label_doubts.probabilities(given)]
            share = float(np.concatenate(right).mean())
        if share not in self._confident:
            self._confident.clear()
            self._confident[share] = calibrated(self.classifier.train, share)
        return self._confident[share]

    def _outputs(self, labels: KnownLabels) -> NDArray[np.int64]:
        """Return the classifier's output for each class, and UNKNOWN at the end; C for a class that it does not know.

        So an image of such a class counts as one that it gets wrong.
        """
        assert self.classifier is not None
        known = {name: i for i, name in enumerate(self.classifier.classes)}
        return np.array([*(known.get(name, len(known)) for name in labels.names), UNKNOWN], dtype=np.int64)


def _doubtful(labels: KnownLabels, given: label_doubts.Labelled, checked: Collection[int]) -> list[tuple[int, str]]:
    """Return the training images whose label the others contradict, the most doubtful first, each with a reason."""
    index, skip = labels.index, set(checked)
    place, suggested, margin = label_doubts.doubts(given)
    found = []
    for i in np.lexsort((place, margin)).tolist():
        image = int(index[place[i]])
        if margin[i] < 0 and image not in skip:
            was, other = (labels.names[each] for each in (given.label[place[i]], suggested[i]))
            found.append((image, f"check {was!r}: similar images say {other!r}"))
    return found
