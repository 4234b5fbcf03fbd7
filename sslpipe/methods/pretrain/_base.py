"""What every pretext task is given and does: images without labels, and a warning when the features collapse."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sslpipe.data.images import Images
from sslpipe.data.store import StoreInfo
from sslpipe.engine.method import BaseMethod
from sslpipe.io.console import info
from sslpipe.methods.pretrain._monitors import MAX_IMAGES, MIN_STD, feature_diagnostics, feature_std
from sslpipe.nets.inference import infer
from sslpipe.nets.network import BackboneSettings, Network, build_network
from sslpipe.views.multi_crop import MultiCrop, MultiCropSettings
from sslpipe.views.policies import Views, ViewSettings

WARN_AFTER = 0.1
"""Share of the run before which no loss is compared with its value at chance, where every run begins (own choice)."""
CHANCE_TOLERANCE = 2e-3
"""Relative distance to that value that counts as being there (own choice)."""
COLLAPSED = "all features are the same (collapse)"


@dataclass(frozen=True)
class Problem:
    """What a pretext task is given: images without labels, and which network to train."""

    backbone: BackboneSettings
    info: StoreInfo
    images: Images
    """All training images."""
    held_out: Images

    def network(self) -> Network:
        """A new network without a head, its start values drawn from torch's global generator."""
        return build_network(self.backbone, self.info)


class SelfSupervised(BaseMethod):
    """A network that learns from images alone, with diagnostics of its features of held-out images."""

    def __init__(self, problem: Problem, views: ViewSettings) -> None:
        """views: the method's own; the diagnostics draw two of each held-out image."""
        super().__init__()
        self.network = problem.network()
        self.images, self.held_out = problem.images, problem.held_out
        self._last_warning = ""
        self.views = self.policy(views)

    def policy(self, settings: ViewSettings) -> Views:
        """Views whose Cutout fills with the images' mean."""
        return Views(settings, self.network.image_mean, side=self.network.side)

    def multi_crop(self, settings: MultiCropSettings) -> MultiCrop:
        """Multi-crop of the images, in sizes that the network takes."""
        network, size = self.network, self.images.array.shape[-1]
        return MultiCrop(settings, network.image_mean, size=size, multiple=network.side_multiple, side=network.side)

    def loss_at_chance(self) -> Mapping[str, float]:
        """Term → its value while nothing is told apart, near which a warning is printed; empty for no such value."""
        return {}

    def chance_loss(self) -> float | None:
        """The value in `loss_at_chance`."""
        return self.loss_at_chance().get("loss")

    def selected(self) -> Network:
        """The network to keep."""
        return self.network

    def watched(self) -> Network:
        """The network to keep."""
        return self.selected()

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Diagnostics of the held-out images' features; warns if the features or a loss show a collapse."""
        row = feature_diagnostics(self.selected(), self.held_out, self.views)
        name = type(self).__module__.rpartition(".")[2]
        found = self._warning(terms, row) if self.progress.fraction > WARN_AFTER else ""
        if found and found != self._last_warning:
            info(f"pretrain.{name}: {found}; {self.collapse_hint}")
        self._last_warning = found
        return row

    def collapse(self, row: Mapping[str, float]) -> str:
        """All features are the same: of the held-out images, or of training images if there are too few of these."""
        std = row.get("held_out/feature_std")
        if std is None:
            spread = torch.linspace(0, len(self.images) - 1, min(len(self.images), MAX_IMAGES)).long()
            std = feature_std(infer(self.selected().eval().features, self.images.subset(spread)))
        return "" if std >= MIN_STD else COLLAPSED

    def _warning(self, terms: Mapping[str, float], row: Mapping[str, float]) -> str:
        """What a row of the history shows of a collapse, in words; empty for nothing."""
        if not row.get("held_out/feature_std", 1.0) >= MIN_STD:
            return COLLAPSED
        if row.get("held_out/prototypes") == 1:
            return "all held-out images prefer one prototype (collapse)"
        levels = self.loss_at_chance().items()
        at_chance = [term for term, level in levels if abs(terms[term] - level) < CHANCE_TOLERANCE * level]
        return f"{at_chance[0]} stays at its value at chance, nothing is learned" if at_chance else ""
