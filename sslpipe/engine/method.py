"""The interface between the training loop and a method."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Self

import torch
from torch import Tensor, nn

from sslpipe.data.batches import Needs
from sslpipe.engine.schedules import ScheduleSettings, factor


@dataclass(frozen=True)
class Progress:
    """Position in a training run, which all schedules are functions of."""

    step: int = 0
    """Number of steps done."""
    total: int = 1
    """Number of steps in the run."""
    steps_per_epoch: int = 1

    @property
    def fraction(self) -> float:
        """Fraction of the run that is done, in [0, 1]."""
        return self.step / self.total

    @property
    def epochs(self) -> float:
        """Number of epochs done, with fractions."""
        return self.step / self.steps_per_epoch

    @property
    def before(self) -> Self:
        """Position before the last step, at which its loss was computed."""
        return replace(self, step=max(self.step - 1, 0))


@dataclass(frozen=True)
class Multipliers:
    """Factors on the optimiser's learning rate and weight decay, for one step."""

    lr: float = 1.0
    weight_decay: float = 1.0


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """Return the name of the first tensor with values that are not finite; empty if there is none."""
    return next((name for name, value in weights.items() if not value.isfinite().all()), "")


class BaseMethod(nn.Module, ABC):
    """Base class of all methods: computes the loss of a batch.

    All state must be in parameters and buffers, which checkpoints save.
    """

    finished = False
    """Whether to end the run at the end of the current interval; set by the method."""
    progress = Progress()
    """Position in the run; updated by the loop."""
    collapse_hint = "lower the learning rate"
    """What to change if the run collapses: equal features, or one cluster or class for all images."""
    falling: Mapping[str, float] = {"loss": -inf}
    """Term of the loss → a value. A term that ends neither below its value at the first step nor below this one shows
    that little was learned. Terms that may rise in a useful run are absent."""

    @abstractmethod
    def draw_views(self, batch: Any, generator: torch.Generator) -> Any:
        """Return the augmented images of a step: tensors, in lists, tuples and dataclasses, or None.

        batch: what the run's stream of batches yields, such as sslpipe.data.batches.Batch. generator: the source of
        all random numbers, on the device, seeded by the loop for each step.
        On CUDA this is called one step ahead, see `views_form`; `progress` is then that of the step to come.
        """

    def views_form(self) -> Hashable | None:
        """Return what decides which operations `draw_views` consists of, besides the shapes of the batch.

        Steps of one form repeat the operations of its first step. None: the views depend on weights or state that the
        step before changes, so they are never drawn ahead.
        """
        return ""

    @abstractmethod
    def losses(self, batch: Any, views: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the named scalar terms of one step; the loop minimises "loss" and logs the mean of each per interval.

        views: what `draw_views` returned for the batch. generator: as it was left by `draw_views`. An optional term
        "skipped" of 1 means that the step has nothing to learn from, and leaves all weights unchanged.
        """

    def needs(self) -> Needs:
        """Return what the method needs of the batches of images, the unlabelled ones if it also has others."""
        return Needs()

    def chance_loss(self) -> float | None:
        """Return the "loss" of a model that knows nothing, with equal or independent outputs for all images.

        It is shown beside the loss of the last step, and may depend on the position in the run. None: the loss has no
        such value.
        """
        return None

    def note(self, loss: float) -> str:
        """Return what the progress shows of the last steps: the epoch, their mean loss and its value at chance."""
        chance = self.chance_loss()
        known = "" if chance is None else f" (chance {chance:.4g})"
        return f"epoch {self.progress.epochs:.4g}  loss {loss:.4g}{known}"

    def rate(self, name: str) -> float:
        """Return the factor on the learning rate of the parameter with this name."""
        return 1.0

    def multipliers(self) -> Multipliers:
        """Return the factors on the learning rate and the weight decay of the next step."""
        return Multipliers()

    def schedule_factor(self, schedule: ScheduleSettings) -> float:
        """Return the factor of the learning-rate schedule for the next step, by default by its place in the run."""
        progress = self.progress
        return factor(schedule, progress.step, progress.total, progress.steps_per_epoch)

    def after_step(self) -> None:
        """Update state that depends on the new weights, such as averages; called after the optimiser's step."""

    def after_epoch(self, terms: dict[str, float]) -> dict[str, float]:
        """Return additional columns for the history at the end of an interval, by default an epoch.

        terms: means over the interval of the terms that `losses` returned.
        """
        return {}

    def watched(self) -> nn.Module | None:
        """Return the network whose features are measured during the run, outside of its results; None: no network.

        It is not to be changed by this call; see sslpipe/running/watching.py.
        """
        return None

    def selected_monitors(self) -> Any:
        """Return the classifiers on the layers of the network to keep, which are saved with it; by default None."""
        return None

    def collapse(self, row: Mapping[str, float]) -> str:
        """Return why the model at the end of a run is of no use, in words; empty if nothing shows that.

        row: the last row of the history.
        """
        return ""
