"""What clustering is given."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from sslpipe.data.images import Images
from sslpipe.metrics.pca import Pca, fit_pca
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
    _fitted: dict[int, Pca] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Number of components → those of the features."""

    def pca(self, components: int) -> Pca:
        """Return the principal components of the features as `fit_pca` does, each number of them computed once."""
        if components not in self._fitted:
            if self.features is None:
                raise ValueError("features: missing")
            self._fitted[components] = fit_pca(self.features, components)
        return self._fitted[components]


@dataclass(frozen=True)
class Problem:
    """What clustering is given."""

    network: Network
    """With the pretext task's weights; its head is replaced."""
    train: Neighborhood
    held_out: Neighborhood
    """Their neighbours are mined among themselves."""
