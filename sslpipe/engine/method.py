"""What the loop asks of a method."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Progress:
    """Where a run stands: what everything scheduled is a function of."""

    step: int = 0
    """Steps done."""
    total: int = 1
    """Steps in the whole run."""
    steps_per_epoch: int = 1

    @property
    def fraction(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return self.step / self.total

    @property
    def epochs(self) -> float:
        """Passes over the images that are done."""
        return self.step / self.steps_per_epoch


@dataclass(frozen=True)
class Pace:
    """Factors on what the run's optimiser is set to, for one step."""

    lr: float = 1.0
    weight_decay: float = 1.0


class Method(nn.Module, ABC):
    """How a batch becomes a loss. What it must remember lies in parameters and buffers, so a checkpoint holds it."""

    finished = False
    """True ends the run after the epoch."""
    progress = Progress()
    """Where the run stands; the loop keeps it up to date."""

    @abstractmethod
    def losses(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalars of one step, of which the loop minimises "loss" and logs the rest as means over the epoch.

        batch: what the run's batches yield (sslpipe.data.batches.Batch). generator: on the device, seeded anew for
        each step; every random draw comes from it. A term "skipped" other than 0 says that there was nothing to learn
        from: the step changes no weight.
        """

    def rate(self, name: str) -> float:
        """The factor on the learning rate of the parameter of that name."""
        return 1.0

    def pace(self) -> Pace:
        """How the coming step's learning rate and weight decay differ from the run's."""
        return Pace()

    def after_step(self) -> None:
        """Update what follows the weights (averages, memories); called after the optimiser's step."""

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Look at an epoch, or the interval that the run is set to, and return further columns for the history.

        terms: means of what `losses` returned.
        """
        return {}
