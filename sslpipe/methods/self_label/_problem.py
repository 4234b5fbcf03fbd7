"""What self-labelling is given."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sslpipe.data.images import Images
from sslpipe.nets.network import Network


@dataclass(frozen=True)
class Problem:
    """What self-labelling is given."""

    network: Network
    """With one cluster head, as the cluster stage writes it."""
    images: Images
    features: NDArray[np.float16] | None = None
    """[N, D], stored features of all training images by the network's backbone, which may lie in a file; given, as are
    the neighbours, to a method whose Settings say `reads_features`."""
    neighbors: NDArray[np.int64] | None = None
    """[N, k], the mined neighbours of each training image, the nearest first."""
