"""Random samples of the images of a split."""

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.seeds import RandomStream, mix


def some_of(count: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return at most `most` random indices below `count`, ascending; all of them if there are no more."""
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def sampled(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of `count` images, by `some_of`, the same in every stage of a project."""
    return some_of(count, most, np.random.default_rng(mix(seed, RandomStream.COMPARE_SAMPLE)))
