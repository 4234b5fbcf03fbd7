"""The step of the training loop, and the settings of a run."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data import world
from sslpipe.data.batches import Stream
from sslpipe.data.device import autocast, image_format
from sslpipe.data.seeds import RandomStream, mix
from sslpipe.engine.ahead import drawing_for
from sslpipe.engine.method import BaseMethod, Progress
from sslpipe.engine.optimizers import OptimizerSettings, build_optimizer, clip_gradients, gradient_norm, skip_update
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.settings import Count, Positive, TwoOrMore


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Length of a training run, its batch size and its optimisation."""

    epochs: Count = 1
    """Number of passes over the images. Larger: a better fit, slower, and with few labels overfitting in the end."""
    steps: Count | None = None
    """Number of steps, used instead of `epochs` if given. Larger: as for `epochs`."""
    batch: TwoOrMore
    """Images per step, over all processes: at least 2, since batch norm and contrastive losses compare images. Larger:
    less noise in a step, fewer steps in an epoch, more memory; `lr` is then raised too."""
    interval: Count | None = None
    """Steps between two rows of the history, and between two calls of the method's `after_epoch`; null: one epoch.
    Larger: fewer rows, and fewer occasions to keep the best weights, for less time."""
    optimizer: OptimizerSettings
    schedule: ScheduleSettings = ScheduleSettings()
    clip: Positive | None = None
    """Maximum norm of the gradient; null: no clipping. Larger: rarer clipping, so bursts disturb the weights more."""
    clip_by: Literal["all", "tensor"] = "all"
    """Whether `clip` limits the norm of all gradients together or of each tensor alone (DINO, arXiv:2104.14294)."""


class Trainer:
    """Runs the training steps of a method."""

    def __init__(self, method: BaseMethod, batches: Stream, settings: FitSettings, *, seed: int) -> None:
        """method: on the device of the batches, with its initial weights."""
        method.to(memory_format=image_format(batches.device))
        self.method, self.batches, self.settings, self.seed = method, batches, settings, seed
        self.total = settings.steps or settings.epochs * batches.steps_per_epoch
        self.interval = settings.interval or batches.steps_per_epoch
        self.gradient_norm = torch.zeros(())
        """2-norm of all gradients before clipping, at the last step of an interval, the only one that computes it."""
        self.optimizer = build_optimizer(settings.optimizer, method, method.rate)
        self._drawing = drawing_for(method, batches, seed=seed, total=self.total)

    def step(self, step: int) -> dict[str, Tensor]:
        """Run a step (0-based): batch, loss, gradient and update, all of them functions of the seed and the step.

        Returns the terms of the loss, detached. Does not wait for the device.
        """
        method, settings = self.method, self.settings
        self._begin_step(step)
        torch.manual_seed(mix(self.seed, RandomStream.STEP_GLOBAL, step))
        with world.shared_batch():
            drawn = self._drawing.at(step)
            with autocast(self.batches.device):
                terms = method.losses(drawn.batch, drawn.views, drawn.generator)
            self.optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()  # type: ignore[no-untyped-call]
        world.average_gradients(method.parameters())
        if self.row_is_due(step + 1):
            self.gradient_norm = gradient_norm(method.parameters())
        if settings.clip is not None:
            clip_gradients(method.parameters(), settings.clip, by=settings.clip_by)
        skip_update(self.optimizer, terms.get("skipped"))
        self.optimizer.step()
        method.progress = replace(method.progress, step=step + 1)
        method.after_step()
        self._drawing.done(step)
        return {name: value.detach() for name, value in terms.items()}

    def row_is_due(self, steps: int) -> bool:
        """Whether the history has a row after so many steps."""
        return steps % self.interval == 0 or steps == self.total

    def _begin_step(self, step: int) -> None:
        """Tell the method where the run is, and set the learning rate and the weight decay of a step."""
        settings, method = self.settings, self.method
        method.progress = Progress(step, self.total, self.batches.steps_per_epoch)
        multipliers = method.multipliers()
        self.lr = settings.optimizer.lr * multipliers.lr * method.schedule_factor(settings.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["rate"]
            group["weight_decay"] = multipliers.weight_decay * group["decay"]
