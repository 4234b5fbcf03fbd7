"""Seeds of independent random streams, derived from the project's seed."""

from enum import IntEnum


class RandomStream(IntEnum):
    """Identifies each use of random numbers: the second argument of `mix(seed, stream, ...)`.

    Every stream has its own seed, so that a change to one use leaves the random numbers of all others as they are.
    The numbers are part of the results and must not be changed.
    """

    EPOCH_ORDER = 1
    """Order of the training images in an epoch."""
    STEP_GLOBAL = 2
    """The global generator of torch in a training step, used by dropout, for example."""
    STEP_GENERATOR = 3
    """The generator that a training step passes to the method, on the device."""
    LABELLED_ORDER = 4
    """Order of the labelled images in a pass over them."""
    TEST_SPLIT = 11
    """Choice of the test images."""
    HELD_OUT_SPLIT = 12
    """Choice of the held-out images."""
    LABELLED_SUBSET = 13
    """Choice of the labelled images, per fold."""
    KMEANS_SAMPLE = 21
    """Images that k-means is fitted to if not all of them fit into memory."""
    COMPARE_SAMPLE = 22
    """Images on which a cluster model is compared with plain baselines."""
    VOTES_SAMPLE = 23
    """Labelled images whose predictions rank label permutations, where a class has many."""
    RECALL_SAMPLE = 24
    """Images whose exact neighbours tell what an approximate search finds, whatever the project's seed."""
    ESTIMATE_SAMPLE = 30
    """Images that `estimate-clusters` uses."""
    ESTIMATE_BATCHES = 31
    """Batches of the cluster heads of `estimate-clusters`, per number of clusters."""
    ESTIMATE_WEIGHTS = 32
    """Initial weights of the cluster heads of `estimate-clusters`, per number of clusters."""
    ESTIMATE_BOOTSTRAP = 33
    """Bootstrap samples of `estimate-clusters`."""
    ASK_HELD_OUT = 40
    """Order of the held-out images that `ask` asks for."""


def mix(*numbers: int) -> int:
    """Combine several small non-negative integers into one 63-bit seed (SplitMix64, Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def seed_of_step(seed: int, step: int) -> int:
    """Return the seed of the generator of a training step (0-based), in a run with the project's seed."""
    return mix(seed, RandomStream.STEP_GENERATOR, step)
