"""The training loop, which all methods share."""

import math

import torch
from torch import Tensor

from sslpipe.data import world
from sslpipe.data.batches import Stream
from sslpipe.engine.checkpoint import Checkpoint, State
from sslpipe.engine.live import Live
from sslpipe.engine.method import BaseMethod
from sslpipe.engine.trainer import FitSettings, Trainer
from sslpipe.io.console import info, progress
from sslpipe.io.errors import NothingLearnedError
from sslpipe.io.interrupts import listening

LOG_STEPS = 50
"""Steps between checks that the loss is finite (each waits for the device)."""


def fit(
    method: BaseMethod,
    batches: Stream,
    settings: FitSettings,
    *,
    where: str,
    seed: int,
    checkpoint: Checkpoint,
    live: Live | None = None,
) -> State:
    """Train a method, from its checkpoint if there is one, and return the state at the end, with the history.

    method: on the device, with its initial weights. where: the params key of the settings, for progress and errors.
    live: receives every row as it comes, and what the history has not, such as times.
    The history has one row per interval: step, epoch, lr, the means of the method's terms, and the columns that its
    `after_epoch` returns. It has no times, so that equal runs write equal files.
    All random numbers are functions of the seed and the step, so a resumed run ends with the same weights as an
    uninterrupted one, bit for bit on the CPU.
    Raises NothingLearnedError if the loss is not finite, and KeyboardInterrupt on Ctrl-C, after saving.
    """
    trainer = Trainer(method, batches, settings, seed=seed)
    total, optimizer, interval = trainer.total, trainer.optimizer, trainer.interval
    live = live or Live(None)
    state = checkpoint.load(method, optimizer)
    world.check_agreed(state.step, f"{where}: the checkpoint")
    live.begin(state)
    if state.step:
        info(f"{where}: resumed after step {state.step} of {total}")
    method.train()
    with (
        listening() as interrupts,
        progress(where, total * settings.batch, "images", done=state.step * settings.batch, last_line=False) as bar,
    ):
        while state.step < total and not state.finished:
            state.add(trainer.step(state.step))
            bar.advance(settings.batch)
            row_is_due = trainer.row_is_due(state.step)
            if row_is_due or state.step % LOG_STEPS == 0:
                bar.advance(0, note=method.note(_check(state.sums["loss"], where) / ((state.step - 1) % interval + 1)))
            if row_is_due:
                metadata = {"epoch": state.step / batches.steps_per_epoch, "lr": trainer.lr}
                _add_row(state, method, interval, metadata)
                live.row(state, images=settings.batch, gradient_norm=trainer.gradient_norm)
                state.finished = method.finished
            interrupted = world.anywhere(interrupts.received)
            if checkpoint.due() or interrupted:
                _check(sum(state.sums.values(), torch.zeros(())), where)
                checkpoint.save(state, method, optimizer)
            if interrupted:
                checkpoint.stop(f"{where}: stopped after step {state.step} of {total}")
    # The outputs are not yet written; a crash before they are must not lose the training.
    checkpoint.save(state, method, optimizer)
    return state


def _add_row(state: State, method: BaseMethod, interval: int, metadata: dict[str, float]) -> None:
    """Append a row to the history: the means of the terms, and what the method's `after_epoch` adds."""
    count = (state.step - 1) % interval + 1
    means = {name: value.item() / count for name, value in state.sums.items()}
    state.sums = {}
    row = {"step": state.step, **metadata, **means, **method.after_epoch(means)}
    method.train()
    state.history.append(row)


def _check(value: Tensor, where: str) -> float:
    if not math.isfinite(number := value.item()):
        raise NothingLearnedError(
            f"{where}: the loss is not finite; lower {where}.fit.optimizer.lr or set {where}.fit.clip"
        )
    return number
