"""What a pretext task is given, and what all of them have in common: images without labels, an eye on collapse."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sslpipe.data.images import Images
from sslpipe.data.store import StoreInfo
from sslpipe.engine.method import Method
from sslpipe.io.console import say
from sslpipe.io.errors import UserError
from sslpipe.methods.pretext.monitors import FLAT, look
from sslpipe.methods.watch import Watch
from sslpipe.nets.network import BackboneSettings, Network, build_network
from sslpipe.views.policies import Views, ViewSettings

JUDGED_FROM = 0.1
"""Share of the run before which no loss is held against its level at chance, where all begin (own choice)."""
NEAR_CHANCE = 2e-3
"""Relative distance to that level that counts as being there (own choice)."""


ALL_THE_SAME = "all features are the same (collapse)"
WATCH = ("held_out", "held_out/images.npy")
"""What of the held-out images may be opened (pretrain.watch): with their labels, or without."""


@dataclass(frozen=True)
class Task:
    """Images without labels, and a network to be."""

    backbone: BackboneSettings
    info: StoreInfo
    images: Images
    """All training images."""
    watch: Watch

    def network(self) -> Network:
        """A new network without a head, its start values drawn from torch's global generator."""
        return build_network(self.backbone, self.info)


class SelfSupervised(Method):
    """A network that learns from images alone, watched on held-out ones."""

    remedy = "lower the learning rate"
    """What to change where it collapses."""

    def __init__(self, task: Task, views: ViewSettings) -> None:
        """views: those of the task, of which the monitor draws two of each held-out image."""
        super().__init__()
        self.network = task.network()
        self.task = task
        self._said = ""
        self.views = self.policy(views)

    def policy(self, settings: ViewSettings) -> Views:
        """Views whose Cutout fills in the images' mean."""
        return Views(settings, self.network.image_mean)

    def chance(self) -> Mapping[str, float]:
        """Term → its value while nothing is told apart; none for a loss without such a level."""
        return {}

    def selected(self) -> Network:
        """The network to keep."""
        return self.network

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Figures of the held-out images; a plain word where the features or a loss show a collapse.

        Raises UserError where all features are the same at the end of the run: such a model is of no use.
        """
        row = look(self.selected(), self.task.watch, self.views)
        name = type(self).__module__.rpartition(".")[2]
        found = self._collapse(terms, row) if self.progress.fraction > JUDGED_FROM else ""
        if found == ALL_THE_SAME and self.progress.step == self.progress.total:
            raise UserError(f"pretrain.{name}: {found}; {self.remedy}")
        if found and found != self._said:
            say(f"pretrain.{name}: {found}; {self.remedy}")
        self._said = found
        return row

    def _collapse(self, terms: Mapping[str, float], row: Mapping[str, float]) -> str:
        """What is wrong, in words; empty for nothing."""
        if row.get("held_out/deviation", 1.0) < FLAT:
            return ALL_THE_SAME
        if row.get("held_out/prototypes") == 1:
            return "all held-out images prefer one prototype (collapse)"
        at_chance = [t for t, level in self.chance().items() if abs(terms[t] - level) < NEAR_CHANCE * level]
        return f"{at_chance[0]} stays where it is at chance, nothing is learned" if at_chance else ""


def unit_rows(count: int, length: int) -> Tensor:
    """[count, length] random directions, from torch's global generator: what memories begin with."""
    return F.normalize(torch.randn(count, length), dim=1)
