"""What is asked next, with its reason: an order of images of which each beginning is the order for a smaller budget."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sslpipe.asking.herding import herding, sparse_kernel, uncertainty
from sslpipe.asking.typical import most_typical, typicality
from sslpipe.data.seeds import RandomStream, mix

EVERY = 10
"""Every tenth question is a random held-out image, so that an accuracy on these is that of all images (own choice)."""
DOUBT_AT = 5
"""Place of a doubtful label among each EVERY questions, if there is one (own choice)."""
UNCERTAIN_FROM = 5
"""Labels a class from which uncertain images are preferred (UHerding, arXiv:2412.20644: with fewer, a classifier's
uncertainty tells little)."""
RANDOM_REASON = "random, for an honest figure"
TYPICAL, COVERS, UNCERTAIN, RANDOM, DOUBTFUL = "typical", "covers", "uncertain", "random", "doubtful"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of N training images and of M held-out ones when questions are chosen."""

    neighbors: NDArray[np.int64]
    """[N, k], nearest neighbours."""
    cosine: NDArray[np.floating]
    """[N, k]."""
    index: NDArray[np.int64]
    """[L], the training images with a label."""
    classes: int
    """Number of classes that the L labels have."""
    group: NDArray[np.int64] | None = None
    """[N], cluster of each image; None if no model has grouped them."""
    group_names: Sequence[str] = ()
    """Names of the clusters; () for their numbers."""
    probability: NDArray[np.floating] | None = None
    """[N, C], calibrated probabilities of a classifier; None if there is none."""
    doubtful: Sequence[tuple[int, str]] = ()
    """Training images whose label the others contradict, the most doubtful first, each with a reason in words."""
    held_out: NDArray[np.bool_]
    """[M], the held-out images without a label."""

    @property
    def weighs(self) -> bool:
        """Whether uncertain images are preferred."""
        enough = len(self.index) >= UNCERTAIN_FROM * max(self.classes, 1) and self.classes > 1
        return enough and self.probability is not None


@dataclass(frozen=True)
class Question:
    """An image that is worth a label."""

    image: int
    """Its index among the training images, or among the held-out ones."""
    held_out: bool
    kind: str
    """One of the constants TYPICAL, COVERS, UNCERTAIN, RANDOM and DOUBTFUL."""
    reason: str
    """Why it is asked, in words."""


def questions(known: Known, budget: int, *, seed: int) -> list[Question]:
    """Return the next questions, at most `budget`; fewer if no other image adds anything.

    Among each ten questions the tenth is a random held-out image, and the fifth a doubtful label, as long as there are
    any; all others are training images without a label: first the most typical image of each group without a label,
    the largest group first, then by MaxHerding, or from UNCERTAIN_FROM labels a class on, with a classifier, by
    UHerding. The order depends only on `known` and `seed`, and a larger budget adds questions at its end.
    """
    return list(islice(_order(known, seed), budget))


def _order(known: Known, seed: int) -> Iterator[Question]:
    random = iter(random_order(known.held_out, seed=seed).tolist())
    doubtful, chosen = iter(known.doubtful), chosen_images(known)
    place = 0
    while True:
        place += 1
        question: Question | None = None
        if place % EVERY == 0 and (image := next(random, None)) is not None:
            question = Question(image, True, RANDOM, RANDOM_REASON)
        elif place % EVERY == DOUBT_AT and (doubt := next(doubtful, None)) is not None:
            question = Question(doubt[0], False, DOUBTFUL, doubt[1])
        question = question or next(chosen, None)
        if question is None:
            return
        yield question


def chosen_images(known: Known) -> Iterator[Question]:
    """Yield the training images without a label in the order in which they are worth one."""
    count = len(known.neighbors)
    labelled = np.zeros(count, bool)
    labelled[known.index] = True
    first: list[int] = []
    if known.group is not None:
        typical = typicality(known.neighbors, known.cosine, known.group)
        first = list(most_typical(known.group, typical, labelled, ~labelled))
    for image in first:
        assert known.group is not None
        each = int(known.group[image])
        name = known.group_names[each] if known.group_names else each
        yield Question(image, False, TYPICAL, f"most typical of group {name}, which has no label")
    weight = uncertainty(known.probability) if known.weighs and known.probability is not None else None
    kernel = sparse_kernel(known.neighbors, known.cosine)
    order = herding(kernel, np.array([*known.index.tolist(), *first], dtype=np.int64), weight=weight)
    kind = COVERS if weight is None else UNCERTAIN
    reason = (
        "similar to many images that no labelled one is similar to"
        if weight is None
        else "similar to many uncertain images that no labelled one is similar to"
    )
    yield from (Question(image, False, kind, reason) for image in order)


def random_order(free: NDArray[np.bool_], *, seed: int) -> NDArray[np.int64]:
    """Return the images that are `free`, [M] → at most [M], in random order.

    The order of all M images depends on the seed alone, so that those that are labelled are a random subset.
    """
    order = np.argsort(np.random.PCG64(mix(seed, RandomStream.ASK_HELD_OUT)).random_raw(len(free)), kind="stable")
    result: NDArray[np.int64] = order[free[order]]
    return result


def counts(asked: Iterable[Question]) -> dict[str, int]:
    """Return how many questions there are of each kind, in the order of the constants, without those of 0."""
    kinds = [question.kind for question in asked]
    return {kind: number for kind in (TYPICAL, COVERS, UNCERTAIN, RANDOM, DOUBTFUL) if (number := kinds.count(kind))}
