"""What is asked next, with its reason: an order of images of which each beginning is the order for a smaller budget."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sslpipe.asking.herding import Kernel, herding, sparse_kernel, uncertainty
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
class Pool:
    """What does not change between questions about N training images; what is costly is computed once."""

    neighbors: NDArray[np.int64]
    """[N, k], nearest neighbours."""
    cosine: NDArray[np.floating]
    """[N, k]."""
    group: NDArray[np.int64] | None = None
    """[N], cluster of each image; None if no model has grouped them."""
    group_names: Sequence[str] = ()
    """Names of the clusters; () for their numbers."""

    def __len__(self) -> int:
        return len(self.neighbors)

    @cached_property
    def kernel(self) -> Kernel:
        """Similarities of the images."""
        return sparse_kernel(self.neighbors, self.cosine)

    @cached_property
    def typical(self) -> NDArray[np.float64]:
        """How typical each image is of its group, [N]."""
        return typicality(self.neighbors, self.cosine, self.group)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of N training images and of M held-out ones when questions are chosen."""

    pool: Pool
    """The training images."""
    index: NDArray[np.int64]
    """[L], the training images with a label."""
    classes: int
    """Number of classes that the L labels have."""
    skipped: NDArray[np.bool_] | None = None
    """[N], training images that are not asked for although they have no label: a person was unsure, or no class fits;
    None for none. Images similar to these are asked for as late as those similar to labelled ones, since they would
    have the same answer; a group's most typical image is asked for as if it had no skipped one."""
    probability: NDArray[np.floating] | None = None
    """[N, C], calibrated probabilities of a classifier; None if there is none."""
    doubtful: Sequence[tuple[int, str]] = ()
    """Training images whose label the others contradict, the most doubtful first, each with a reason in words."""
    held_out: NDArray[np.bool_]
    """[M], the held-out images that may be asked for: those without a label that were not skipped."""

    @property
    def weighs(self) -> bool:
        """Whether uncertain images are preferred."""
        return self.probability is not None and uncertainty_counts(len(self.index), self.classes)

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """The training images that may be asked for, [N]."""
        allowed = np.ones(len(self.pool), bool) if self.skipped is None else ~self.skipped
        allowed[self.index] = False
        return allowed


def uncertainty_counts(labels: int, classes: int) -> bool:
    """Return whether a classifier's uncertainty counts, with this many labels of this many classes."""
    return classes > 1 and labels >= UNCERTAIN_FROM * classes


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


def questions(known: Known, budget: int, *, seed: int, place: int = 0) -> list[Question]:
    """Return the next questions, at most `budget`; fewer if no other image adds anything.

    Among each ten questions the tenth is a random held-out image, and the fifth a doubtful label, as long as there are
    any; all others are training images without a label: first the most typical image of each group without a label,
    the largest group first, then by MaxHerding, or from UNCERTAIN_FROM labels a class on, with a classifier, by
    UHerding. The order depends only on `known`, `seed` and `place`, and a larger budget adds questions at its end.

    place: number of questions that were asked before, so that the tenth is the tenth of all. If some of the questions
    are answered, the next ones, with `place` raised by their number, are those that would have followed. This is so as
    long as nothing else is labelled or skipped, no answered question is skipped, those about doubtful labels are taken
    from `known.doubtful`, and no uncertainty counts.
    """
    return list(islice(_order(known, seed, place), budget))


def _order(known: Known, seed: int, place: int) -> Iterator[Question]:
    random = iter(random_order(known.held_out, seed=seed).tolist())
    doubtful, chosen = iter(known.doubtful), chosen_images(known)
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
    """Yield the training images without a label in the order in which they are worth one, without those skipped."""
    pool, allowed = known.pool, known.allowed
    first: list[int] = []
    if pool.group is not None:
        labelled = np.zeros(len(pool), bool)
        labelled[known.index] = True
        first = list(most_typical(pool.group, pool.typical, labelled, allowed))
    for image in first:
        assert pool.group is not None
        each = int(pool.group[image])
        name = pool.group_names[each] if pool.group_names else each
        yield Question(image, False, TYPICAL, f"most typical of group {name}, which has no label")
    weight = uncertainty(known.probability) if known.weighs and known.probability is not None else None
    skipped = [] if known.skipped is None else np.flatnonzero(known.skipped).tolist()
    labels = np.array([*known.index.tolist(), *skipped, *first], dtype=np.int64)
    order = herding(pool.kernel, labels, weight=weight, allowed=allowed)
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
