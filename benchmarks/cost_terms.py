"""What a run costs beside its training steps: evaluation, checkpoints, epoch ends and DVC, in counted work and bytes.

Each term is a count, as a function of the numbers of a run, and the CPU seconds of one unit, measured on one core of an
AMD EPYC with one thread. `tests/test_cost_terms.py` holds counts against measurements at three sizes: the CPU seconds
of one size predict those of the two others within a factor of two, whatever the machine; bytes are held as such.
"""

from dataclasses import dataclass

from sslpipe.io.saving import SHARE
from sslpipe.metrics.evaluation import EvaluateSettings
from sslpipe.metrics.kmeans import COMPONENTS, MAX_BYTES, MINI_BATCHES_WORK, PCA_BYTES
from sslpipe.metrics.restarts import restarts_within

SCORED = 6e-9
"""CPU seconds of an image and a class in the metrics of one model: 0.30 s for 50,000 images and 1,000 classes."""
SCORED_IMAGE = 5e-7
"""CPU seconds of an image in these, whatever the classes."""
EVALUATION = 4e-3
"""CPU seconds of the metrics of one model, whatever its size."""
MAPPING = 20e-9
"""CPU seconds of a pair of classes in one label permutation: 2.0 s for 100 of 1,000 classes."""
MAPPING_CLASS = 4e-6
"""CPU seconds of a class in one label permutation: 0.08 s for 100 of 100 classes."""
LLOYD = 0.1e-9
"""CPU seconds of an image, a cluster and a value in one iteration of k-means: 0.07e-9 at 64 values, 0.19e-9 at
3,072."""
ITERATIONS = 50
"""Iterations of one run of k-means: 41, 49 and 72 for 20, 50 and 100 clusters of 5,000, 10,000 and 20,000 vectors."""
HASHED = 1 / 760e6
"""CPU seconds of a byte that DVC hashes, by MD5."""
COPIED = 1 / 2_600e6
"""CPU seconds of a byte that DVC copies into its cache, of a file in memory; a disk is slower, and has no CPU time."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The numbers of a run that its evaluation depends on."""

    images: int
    """Training images, n."""
    scored: int
    """Images that are evaluated, m."""
    classes: int
    """C, and as many clusters."""
    labels: int
    """Labelled images, of all classes."""
    values: int
    """Of one image: C·H·W of its pixels, or D of its features."""
    settings: EvaluateSettings = EvaluateSettings()


@dataclass(frozen=True)
class KMeansWork:
    """What k-means does for a run."""

    fitted: int
    """Vectors it is fitted to."""
    values: int
    """Of each."""
    restarts: int
    mini_batches: bool

    @property
    def bytes(self) -> int:
        """Largest size of all vectors: themselves, and once more for their variances."""
        return (1 if self.mini_batches else 2) * 4 * self.fitted * self.values


def kmeans_work(run: Run) -> KMeansWork:
    """Return what `sslpipe.metrics.kmeans` does for a run, by its rules."""
    exact = run.images * run.classes * run.values <= run.settings.exact_up_to
    values = run.values if exact else min(run.values, COMPONENTS)
    fitted = min(run.images, max(run.classes, MAX_BYTES // (4 * values)))
    work = fitted * run.classes * values
    if exact:
        return KMeansWork(fitted, values, run.settings.restarts, False)
    restarts = restarts_within(run.settings.restarts, work)
    return KMeansWork(fitted, values, restarts, work > MINI_BATCHES_WORK)


def kmeans_seconds(run: Run, iterations: float = ITERATIONS) -> float:
    """Return the CPU seconds of k-means, n · C · D for each iteration of each restart; mini-batches a tenth."""
    work = kmeans_work(run)
    passes = iterations * work.restarts * (0.1 if work.mini_batches else 1)
    return LLOYD * work.fitted * run.classes * work.values * passes


def metrics_seconds(run: Run) -> float:
    """Return the CPU seconds of the metrics and tables of one model, m · C."""
    return SCORED * run.scored * run.classes + SCORED_IMAGE * run.scored + EVALUATION


def permutation_seconds(run: Run) -> float:
    """Return the CPU seconds of the label permutations of one classifier, k · C²."""
    k = run.settings.permutations_of(run.classes)
    return k * run.classes * (MAPPING * run.classes + MAPPING_CLASS)


def vote_forwards(run: Run) -> int:
    """Return the forwards of labelled images in four rotations, for one classifier."""
    if not run.settings.permutations_of(run.classes):
        return 0
    return 4 * min(run.labels, run.settings.votes_per_class * run.classes)


def evaluation_seconds(run: Run, *, classifiers: int, clusterings: int, spaces: int) -> float:
    """Return the CPU seconds of evaluate beside forwards.

    classifiers, clusterings: numbers of models. spaces: those with k-means, pixels and features, each with a row of its
    own; features are counted with the values of the run.
    """
    rows = classifiers + clusterings + spaces
    return rows * metrics_seconds(run) + classifiers * permutation_seconds(run) + spaces * kmeans_seconds(run)


def evaluation_bytes(run: Run) -> int:
    """Return the largest memory of evaluate beside images and networks: vectors of k-means, the
    sample that its principal components are taken of, or probabilities.
    """
    probabilities = 4 * run.scored * run.classes
    work = kmeans_work(run)
    sample = 2 * min(PCA_BYTES, 4 * run.images * run.values) if work.values < run.values else 0
    return max(work.bytes, sample, 2 * probabilities)


def epoch_end_forwards(held_out: int, epochs: int) -> int:
    """Return the forwards of held-out images after each epoch, in which they choose or watch the model."""
    return held_out * epochs


def checkpoint_share() -> float:
    """Return the largest share of a training stage's time that its checkpoints take."""
    return SHARE


def dvc_bytes(written: int) -> tuple[int, int]:
    """Return the bytes that DVC hashes and those that it copies, of the `written` bytes of a stage's outputs.

    Each output is read once for its hash and copied once into the cache, so it is on the disk twice, unless the file
    system shares blocks (`dvc config cache.type reflink,hardlink,copy`). Dependencies that are outputs are not hashed
    again as long as their times are the same.
    """
    return written, written


def dvc_seconds(written: int) -> float:
    """Return the CPU seconds of DVC for a stage that writes so many bytes, beside its start of some seconds."""
    hashed, copied = dvc_bytes(written)
    return HASHED * hashed + COPIED * copied
