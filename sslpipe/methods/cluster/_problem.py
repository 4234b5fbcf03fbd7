"""What clustering is given."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.nets.network import Network


@dataclass(frozen=True)
class Neighborhood:
    """Images of one split with their mined neighbours."""

    images: Images
    neighbors: Tensor
    """int64 [N, K], on the images' device."""
    features: Tensor | NDArray[Any] | None = None
    """[N, D], the stored features of the backbone, float16, where heads learn on them; converted to float32 in
    batches."""


@dataclass(frozen=True)
class Problem:
    """What clustering is given."""

    network: Network
    """With the pretext task's weights; its head is replaced."""
    train: Neighborhood
    held_out: Neighborhood
    """Their neighbours are mined among themselves."""
