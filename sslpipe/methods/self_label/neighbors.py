"""Groups learned once more from the images whose neighbours are mostly in the same group, on stored features."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Fraction, NonNegative
from sslpipe.methods._distil import DistilSettings, head_of_groups
from sslpipe.methods.self_label._problem import Problem
from sslpipe.metrics.agreement import agreeing
from sslpipe.metrics.modularity import neighbor_modularity
from sslpipe.nets.inference import head_logits
from sslpipe.nets.network import Network

WHERE = "self_label.neighbors"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The backbone stays as it is; its cluster head is replaced by a logistic regression."""

    reads_features: ClassVar[bool] = True
    """The method reads the outputs of the stages features and mine-neighbors."""

    share: Fraction = 0.7
    """Share of an image's neighbours that must be in the image's group for it to be learned from (own choice); 0: every
    image is. Larger: fewer images, of surer groups."""
    neighbors: Count = 20
    """Mined neighbours of each image that are counted, the nearest ones; at most `mine_neighbors.k` (own choice). More:
    wider surroundings of an image decide."""
    gap: NonNegative = 0.02
    """Fall of the neighbour modularity beyond which the groups stay as they are, and a line says so (own choice: within
    0.02 the figure does not tell two groupings apart). Larger: changes that put more neighbours into different groups
    are accepted."""
    distil: DistilSettings = DistilSettings()
    """The classifier. All groups have the same weight in its loss, whatever their size."""
    fit: None = None
    """There is no training loop."""


class Method(nn.Module):
    """A balanced logistic regression of the groups, fitted to images with reliable neighbours, becomes the head."""

    collapse_hint = "change the settings of cluster, which made these groups"

    def __init__(self, settings: Settings, problem: Problem) -> None:
        """Check the number of neighbours; raises UserError if fewer are mined."""
        super().__init__()
        if problem.features is None or problem.neighbors is None:
            raise ValueError("problem: features or neighbors are missing")
        if settings.neighbors > (mined := problem.neighbors.shape[1]):
            raise UserError(
                f"{WHERE}.neighbors: {settings.neighbors} asked, {mined} mined; lower it or raise mine_neighbors.k"
            )
        self.settings, self.network = settings, problem.network
        self.features, self.neighbors = problem.features, problem.neighbors[:, : settings.neighbors]
        self.seed = int(torch.randint(2**31 - 1, ()))
        self._logits: Tensor | None = None

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Fit the new head; return the columns of the only row of the history.

        kept: share of images that are learned from. changed: share whose group is another in the new head. modularity,
        start_modularity: `neighbor_modularity` of the new and of the old groups. terms: none.
        """
        start = head_logits(self.network, self.features)
        groups = start.argmax(dim=1).cpu().numpy()
        kept = agreeing(groups, self.neighbors, self.settings.share)
        info(
            f"{WHERE}: the groups are learned from {int(kept.sum())} of {len(groups)} images, those with at least "
            f"{self.settings.share:g} of their {self.settings.neighbors} neighbours in their group"
        )
        kept = with_every_group(groups, kept)
        if (used := int(kept.sum())) > (most := self.settings.distil.images):
            info(f"{WHERE}: of these {used} images {most} are drawn at random; raise {WHERE}.distil.images to use more")
        head = head_of_groups(
            self.features,
            np.where(kept, groups, -1),
            clusters=start.shape[1],
            settings=self.settings.distil,
            seed=self.seed,
        )
        former, self.network.head = self.network.head, head.to(self.network.mean.device)
        self._logits = head_logits(self.network, self.features)
        found = self._logits.argmax(dim=1).cpu().numpy()
        after, before = (neighbor_modularity(each, self.neighbors) for each in (found, groups))
        changed = int((found != groups).sum())
        figures = f"neighbour modularity is {after:.3f}, before {before:.3f}"
        if after < before - self.settings.gap:
            self.network.head, self._logits = former, start
            info(
                f"{WHERE}: {changed} of {len(groups)} images would change their group, but {figures}, so the groups "
                f"stay as they are; a larger {WHERE}.gap changes them"
            )
        else:
            info(f"{WHERE}: {changed} of {len(groups)} images change their group; {figures}")
        return {
            "kept": float(kept.mean()),
            "changed": changed / len(groups),
            "modularity": after,
            "start_modularity": before,
        }

    def training_logits(self) -> Tensor:
        """Return the logits [N, K] of the training images, computed from their stored features."""
        assert self._logits is not None
        return self._logits

    def selected(self) -> Network:
        """The network with the new head."""
        return self.network


def with_every_group(groups: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return `kept` [N] with all images of those groups that would otherwise have none, and print a line for them."""
    lost = np.setdiff1d(groups, groups[kept])
    if not len(lost):
        return kept
    whole = np.isin(groups, lost)
    info(
        f"{WHERE}: no image in {len(lost)} of {len(np.unique(groups))} groups has enough neighbours in its group, so "
        f"these groups are learned from all of their {int(whole.sum())} images; lower {WHERE}.share to leave out some"
    )
    return kept | whole
