"""Spectral clustering of the graph of mined neighbours, and a linear classifier of the groups on stored features."""

from dataclasses import dataclass

from sslpipe.io.console import info
from sslpipe.io.settings import TwoOrMore
from sslpipe.methods._distil import DistilSettings, head_of_groups
from sslpipe.methods.cluster._compare import CompareSettings
from sslpipe.methods.cluster._levels import LevelsSettings
from sslpipe.methods.cluster._on_features import CPU, OnFeatures, neighbors_of
from sslpipe.metrics.spectral import SpectralGroups, SpectralSettings, spectral_groups
from sslpipe.nets.heads import Head
from sslpipe.nets.inference import logits_of

LEAST_KEPT = 0.9
"""Share of the images whose group the classifier keeps, below which a line says so (own choice)."""


@dataclass(frozen=True, kw_only=True)
class Settings(SpectralSettings):
    """The graph has all mined neighbours; `mine_neighbors.k` says how many."""

    clusters: TwoOrMore
    """Number of clusters. More: smaller and finer groups, which may split a class."""
    distil: DistilSettings = DistilSettings()
    """The classifier, which predicts the groups for any image."""
    compare: CompareSettings = CompareSettings()
    """The comparison of the model with plain baselines."""
    levels: LevelsSettings = LevelsSettings()
    """How the groups merge into fewer."""
    fit: None = None
    """There is no training loop."""


class Method(OnFeatures[Settings]):
    """Spectral clustering; the model is a balanced logistic regression of its groups on unit features."""

    def find(self) -> tuple[Head, dict[str, float]]:
        """Group the training images; return the classifier of the groups."""
        settings = self.settings
        found = spectral_groups(
            neighbors_of(self.train_set),
            clusters=settings.clusters,
            settings=settings,
            seed=self.seed,
            where=None if self.is_baseline else "cluster.spectral",
        )
        if not self.is_baseline:
            report_parts(found)
        head = head_of_groups(
            self.features,
            found.groups,
            clusters=settings.clusters,
            settings=settings.distil,
            seed=self.seed,
            pca=self.pca,
        )
        grouped = found.groups >= 0
        kept = float((logits_of(head, self.features, CPU).argmax(dim=1).numpy() == found.groups)[grouped].mean())
        if kept < LEAST_KEPT and not self.is_baseline:
            info(
                f"cluster.spectral: the model keeps the group of {kept:.0%} of the images, since a linear classifier "
                "of the features cannot tell the groups apart; raise cluster.spectral.distil.inverse_penalty"
            )
        return head, {"kept": kept, "parts": found.parts, "left_out": int((~grouped).sum())}


def report_parts(found: SpectralGroups) -> None:
    """Print a line if the graph falls apart."""
    left_out = int((found.groups < 0).sum())
    if found.parts > 1:
        more = ""
        if left_out:
            more = (
                f"; {left_out} images in small ones are left out and get the group of similar features "
                "(cluster.spectral.smallest_part: 0 keeps them)"
            )
        info(
            f"cluster.spectral: the graph of {len(found.groups)} images falls into {found.parts} parts{more}; "
            "raise mine_neighbors.k if the groups are of no use"
        )
