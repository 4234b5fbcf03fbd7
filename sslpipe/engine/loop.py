"""The one training loop."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sslpipe.data.batches import Stream
from sslpipe.data.device import autocast
from sslpipe.data.seeds import mix
from sslpipe.engine.checkpoint import Checkpoint, State
from sslpipe.engine.interrupts import listening
from sslpipe.engine.method import Method, Progress
from sslpipe.engine.optimizers import OptimizerSettings, build_optimizer, clip_gradients, skip_update
from sslpipe.engine.schedules import ScheduleSettings, factor
from sslpipe.io.console import progress, say
from sslpipe.io.errors import UserError
from sslpipe.io.settings import Count, Positive

LOG_STEPS = 50
"""Terms are looked at (a wait for the device) once in so many steps and at each epoch's end."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How long and how fast a method learns."""

    epochs: Count = 1
    """Passes over the images."""
    steps: Count | None = None
    """If given, the length of the run in place of `epochs`."""
    batch: Count
    """Images a step, over all processes."""
    interval: Count | None = None
    """Steps between two rows of the history, where the method also looks at its progress; null: an epoch."""
    optimizer: OptimizerSettings
    schedule: ScheduleSettings = ScheduleSettings()
    clip: Positive | None = None
    """Largest norm of the gradient: of all weights together, or of each tensor by itself (DINO: 3)."""
    clip_by: Literal["all", "tensor"] = "all"


class Trainer:
    """Takes a method from one step to the next."""

    def __init__(self, method: Method, batches: Stream, settings: FitSettings, *, seed: int) -> None:
        """method: on the device of the batches, weights drawn."""
        method.to(memory_format=torch.channels_last)
        self.method, self.batches, self.settings, self.seed = method, batches, settings, seed
        self.total = settings.steps or settings.epochs * batches.steps_per_epoch
        self.optimizer = build_optimizer(settings.optimizer, method, method.rate)
        self._generator = torch.Generator(batches.device)

    def step(self, step: int) -> dict[str, Tensor]:
        """Batch, loss, gradient, update of a step (0-based), all of it a function of the seed and the step.

        Returns the terms without their graph. Nothing here waits for the device.
        """
        method, settings = self.method, self.settings
        self._set_pace(step)
        torch.manual_seed(mix(self.seed, 2, step))
        self._generator.manual_seed(mix(self.seed, 3, step))
        with autocast(self.batches.device):
            terms = method.losses(self.batches.at(step), self._generator)
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        if settings.clip is not None:
            clip_gradients(method.parameters(), settings.clip, together=settings.clip_by == "all")
        skip_update(self.optimizer, terms.get("skipped"))
        self.optimizer.step()
        method.progress = replace(method.progress, step=step + 1)
        method.after_step()
        return {name: value.detach() for name, value in terms.items()}

    def _set_pace(self, step: int) -> None:
        """Learning rate and weight decay of a step."""
        settings, steps_per_epoch = self.settings, self.batches.steps_per_epoch
        self.method.progress = Progress(step, self.total, steps_per_epoch)
        pace = self.method.pace()
        self.lr = settings.optimizer.lr * pace.lr * factor(settings.schedule, step, self.total, steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["rate"]
            group["weight_decay"] = pace.weight_decay * group["decay"]


def fit(
    method: Method, batches: Stream, settings: FitSettings, *, where: str, seed: int, checkpoint: Checkpoint
) -> list[dict[str, float]]:
    """Train a method, going on from its checkpoint if there is one.

    method: on the device, weights drawn. where: the params key of the settings, for progress and errors. Returns the
    history, a row an interval: epoch, step, lr, means of the method's terms, its after_epoch columns; no times, so
    that equal runs write equal files.
    Everything random is a function of the seed and the step, so a run that was cut off ends bit for bit as it would
    have (CPU). Raises UserError where the loss is no longer a number, KeyboardInterrupt after saving on Ctrl-C.
    """
    trainer = Trainer(method, batches, settings, seed=seed)
    total, optimizer = trainer.total, trainer.optimizer
    interval = settings.interval or batches.steps_per_epoch
    state = checkpoint.load(method, optimizer)
    if state.step:
        say(f"{where}: going on after step {state.step} of {total}")
    method.train()
    with (
        listening() as interrupts,
        progress(where, total * settings.batch, "images", done=state.step * settings.batch) as bar,
    ):
        while state.step < total and not state.finished:
            for name, value in trainer.step(state.step).items():
                state.sums[name] = state.sums[name] + value if name in state.sums else value.clone()
            state.step += 1
            bar.advance(settings.batch)
            row_is_due = state.step % interval == 0 or state.step == total
            if row_is_due or state.step % LOG_STEPS == 0:
                _check(state.sums["loss"], where)
            if row_is_due:
                facts = {"epoch": state.step / batches.steps_per_epoch, "lr": trainer.lr}
                row = _add_row(state, method, interval, facts)
                bar.advance(0, note=f"epoch {row['epoch']:.4g}  loss {row['loss']:.4f}")
                state.finished = method.finished
            if checkpoint.due() or interrupts.received:
                _check(sum(state.sums.values(), torch.zeros(())), where)
                checkpoint.save(state, method, optimizer)
            if interrupts.received:
                raise KeyboardInterrupt
    # The outputs are still to be written; a crash until then must not cost the training.
    checkpoint.save(state, method, optimizer)
    return state.history


def _add_row(state: State, method: Method, interval: int, facts: dict[str, float]) -> dict[str, float]:
    """Turn the sums into a row of the history and let the method look at its progress."""
    count = (state.step - 1) % interval + 1
    means = {name: value.item() / count for name, value in state.sums.items()}
    state.sums = {}
    row = {"step": state.step, **facts, **means, **method.after_epoch(means)}
    method.train()
    state.history.append(row)
    return row


def _check(value: Tensor, where: str) -> None:
    if not math.isfinite(value.item()):
        raise UserError(
            f"{where}: the loss is no longer a finite number; lower {where}.fit.optimizer.lr or set {where}.fit.clip"
        )
