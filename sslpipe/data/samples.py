"""Random samples of the images of a split."""

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.seeds import RandomStream, mix


def sampled(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of `count` images, ascending; all of them if there are no more."""
    if count <= most:
        return np.arange(count)
    rng = np.random.default_rng(mix(seed, RandomStream.COMPARE_SAMPLE))
    return np.sort(rng.choice(count, most, replace=False))
