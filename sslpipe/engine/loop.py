"""The training loop, which all methods share."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Stream
from sslpipe.data.device import autocast
from sslpipe.data.seeds import RandomStream, mix
from sslpipe.engine.checkpoint import Checkpoint, State
from sslpipe.engine.interrupts import listening
from sslpipe.engine.method import BaseMethod, Progress
from sslpipe.engine.optimizers import OptimizerSettings, build_optimizer, clip_gradients, skip_update
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.io.console import info, progress
from sslpipe.io.errors import NothingLearnedError
from sslpipe.io.settings import Count, Positive, TwoOrMore

LOG_STEPS = 50
"""Steps between checks that the loss is finite (each waits for the device)."""


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
        method.to(memory_format=torch.channels_last)
        self.method, self.batches, self.settings, self.seed = method, batches, settings, seed
        self.total = settings.steps or settings.epochs * batches.steps_per_epoch
        self.optimizer = build_optimizer(settings.optimizer, method, method.rate)
        self._generator = torch.Generator(batches.device)

    def step(self, step: int) -> dict[str, Tensor]:
        """Run a step (0-based): batch, loss, gradient and update, all of them functions of the seed and the step.

        Returns the terms of the loss, detached. Does not wait for the device.
        """
        method, settings = self.method, self.settings
        self._begin_step(step)
        torch.manual_seed(mix(self.seed, RandomStream.STEP_GLOBAL, step))
        self._generator.manual_seed(mix(self.seed, RandomStream.STEP_GENERATOR, step))
        with autocast(self.batches.device):
            terms = method.losses(self.batches.at(step), self._generator)
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        if settings.clip is not None:
            clip_gradients(method.parameters(), settings.clip, by=settings.clip_by)
        skip_update(self.optimizer, terms.get("skipped"))
        self.optimizer.step()
        method.progress = replace(method.progress, step=step + 1)
        method.after_step()
        return {name: value.detach() for name, value in terms.items()}

    def _begin_step(self, step: int) -> None:
        """Tell the method where the run is, and set the learning rate and the weight decay of a step."""
        settings, method = self.settings, self.method
        method.progress = Progress(step, self.total, self.batches.steps_per_epoch)
        multipliers = method.multipliers()
        self.lr = settings.optimizer.lr * multipliers.lr * method.schedule_factor(settings.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["rate"]
            group["weight_decay"] = multipliers.weight_decay * group["decay"]


def fit(
    method: BaseMethod, batches: Stream, settings: FitSettings, *, where: str, seed: int, checkpoint: Checkpoint
) -> State:
    """Train a method, from its checkpoint if there is one, and return the state at the end, with the history.

    method: on the device, with its initial weights. where: the params key of the settings, for progress and errors.
    The history has one row per interval: step, epoch, lr, the means of the method's terms, and the columns that its
    `after_epoch` returns. It has no times, so that equal runs write equal files.
    All random numbers are functions of the seed and the step, so a resumed run ends with the same weights as an
    uninterrupted one, bit for bit on the CPU.
    Raises NothingLearnedError if the loss is not finite, and KeyboardInterrupt on Ctrl-C, after saving.
    """
    trainer = Trainer(method, batches, settings, seed=seed)
    total, optimizer = trainer.total, trainer.optimizer
    interval = settings.interval or batches.steps_per_epoch
    state = checkpoint.load(method, optimizer)
    if state.step:
        info(f"{where}: resumed after step {state.step} of {total}")
    method.train()
    with (
        listening() as interrupts,
        progress(where, total * settings.batch, "images", done=state.step * settings.batch) as bar,
    ):
        while state.step < total and not state.finished:
            state.add(trainer.step(state.step))
            bar.advance(settings.batch)
            row_is_due = state.step % interval == 0 or state.step == total
            if row_is_due or state.step % LOG_STEPS == 0:
                _check(state.sums["loss"], where)
            if row_is_due:
                metadata = {"epoch": state.step / batches.steps_per_epoch, "lr": trainer.lr}
                row = _add_row(state, method, interval, metadata)
                bar.advance(0, note=f"epoch {row['epoch']:.4g}  loss {row['loss']:.4f}")
                state.finished = method.finished
            if checkpoint.due() or interrupts.received:
                _check(sum(state.sums.values(), torch.zeros(())), where)
                checkpoint.save(state, method, optimizer)
            if interrupts.received:
                checkpoint.stop(f"{where}: stopped after step {state.step} of {total}")
    # The outputs are not yet written; a crash before they are must not lose the training.
    checkpoint.save(state, method, optimizer)
    return state


def _add_row(state: State, method: BaseMethod, interval: int, metadata: dict[str, float]) -> dict[str, float]:
    """Append a row to the history: the means of the terms, and what the method's `after_epoch` adds."""
    count = (state.step - 1) % interval + 1
    means = {name: value.item() / count for name, value in state.sums.items()}
    state.sums = {}
    row = {"step": state.step, **metadata, **means, **method.after_epoch(means)}
    method.train()
    state.history.append(row)
    return row


def _check(value: Tensor, where: str) -> None:
    if not math.isfinite(value.item()):
        raise NothingLearnedError(
            f"{where}: the loss is not finite; lower {where}.fit.optimizer.lr or set {where}.fit.clip"
        )
