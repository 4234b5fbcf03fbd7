"""Checks of what a training stage is given and of what it has learned; the latter come before any model is written."""

import torch
from torch import Tensor, nn

from sslpipe.data.device import widest_float
from sslpipe.data.store import Store
from sslpipe.engine.checkpoint import State
from sslpipe.engine.method import BaseMethod, not_finite
from sslpipe.io.console import info
from sslpipe.io.errors import NothingLearnedError, UserError
from sslpipe.nets.inference import infer
from sslpipe.nets.network import Network
from sslpipe.running.inputs import Inputs

EXPLODED = 100.0
"""Rise of the loss that ends a run, in multiples of its size at the first step, or of 1 if that is more (own choice:
in useful runs of this project the loss doubles at most, with DINO)."""
OVERGROWN = 100.0
"""Growth of the weights' root mean square that ends a run (own choice: in useful runs of this project it triples at
most, in the cluster heads; a learning rate a million times too high multiplies it by 500 in some steps)."""
COMPARED = 1000
"""Images that are compared with the first one at a time (own choice)."""


def check_images(store: Store) -> None:
    """Raise UserError if all training images are equal."""
    images = store.images("train")
    parts = (images[start : start + COMPARED] for start in range(0, len(images), COMPARED))
    if len(images) and all((part == images[0]).all() for part in parts):
        raise UserError(
            f"{store.root / 'train' / 'images.npy'}: all {len(images)} training images are equal, so nothing can be "
            "learned; run 'sslpipe prepare' with other images"
        )


def size_of(method: nn.Module) -> float:
    """Return the root mean square of all parameters of a method, frozen ones included; 0 if it has none."""
    norms = [
        torch.linalg.vector_norm(weight.detach(), dtype=widest_float(weight.device)) for weight in method.parameters()
    ]
    count = sum(weight.numel() for weight in method.parameters())
    return float(torch.stack(norms).square().sum() / count) ** 0.5 if count else 0.0


def check_run(method: BaseMethod, state: State, where: str, *, grown: float) -> None:
    """Raise NothingLearnedError if a run has exploded or collapsed.

    state: at the end of the run. where: the params key of the settings. grown: `size_of` the method at the end, divided
    by that at the start.
    """
    way_out = _way_out(where)
    if name := not_finite(method.state_dict()):
        raise NothingLearnedError(f"{where}: values that are not finite in '{name}' after training; {way_out}")
    first, row = state.first["loss"].item(), state.history[-1]
    if row["loss"] > first + EXPLODED * max(1.0, abs(first)):
        raise NothingLearnedError(
            f"{where}: the loss is {row['loss']:.4g} at the end, {first:.4g} at the first step; {way_out}"
        )
    # A loss of cosines, or behind batch norm, is bounded however large the weights become.
    if grown > OVERGROWN:
        raise NothingLearnedError(f"{where}: the weights are {grown:.2g} times as large as at the start; {way_out}")
    if found := method.collapse(row):
        raise NothingLearnedError(f"{where}: {found}; {method.collapse_hint}")


def report_rise(method: BaseMethod, state: State, where: str) -> None:
    """Print a line for each term that should have fallen and has not."""
    first, row = {name: value.item() for name, value in state.first.items()}, state.history[-1]
    # The mean of a single interval includes the first step, which is too noisy to compare it with.
    for name, enough in method.falling.items() if len(state.history) > 1 else ():
        if name in first and name in row and row[name] >= max(first[name], enough):
            info(
                f"{where}: {name} is {row[name]:.4g} at the end, {first[name]:.4g} at the first step, so little was "
                f"learned; {method.collapse_hint}"
            )


def check_model(
    method: nn.Module, network: Network, inputs: Inputs, *, intervals: int, clusters: bool
) -> Tensor | None:
    """Raise NothingLearnedError if a network is of no use, and print a line if it does not use all its clusters.

    Returns its outputs for the training images, [N, K]; None if it predicts neither clusters nor classes.

    network: the one to be written, which `method` selected. intervals: rows of the run's history. A classifier that
    predicts one class after a single interval, as in a short trial, is only a line. clusters: whether its outputs, if
    it predicts any, are clusters.
    """
    where = inputs.where
    way_out = "start from another model" if inputs.settings.fit is None else _way_out(where)
    if name := not_finite(network.state_dict()):
        raise NothingLearnedError(f"{where}: values that are not finite in '{name}' of the model; {way_out}")
    if inputs.stage == "pretrain":
        return None
    # A method on stored features has the predictions; to compute the features again would take most of its time.
    stored = getattr(method, "training_logits", None)
    logits = None if stored is None else stored()
    if logits is None:
        logits = infer(network.eval(), inputs.images)
    if not logits.isfinite().all():
        raise NothingLearnedError(f"{where}: predictions that are not finite; {way_out}")
    used, outputs = int(logits.argmax(dim=1).bincount().count_nonzero()), logits.shape[1]
    if used == 1:
        what = "clusters" if clusters else "classes"
        hint = getattr(method, "collapse_hint", "start from another model")
        found = f"{where}: all {len(logits)} training images are in one of {outputs} {what}; {hint}"
        if clusters or intervals > 1 or inputs.settings.fit is None:
            raise NothingLearnedError(found)
        info(found)
    if used < outputs and clusters:
        info(f"{where}: {used} of {outputs} clusters have training images, {outputs - used} have none")
    return logits


def _way_out(where: str) -> str:
    return f"lower {where}.fit.optimizer.lr or set {where}.fit.clip"
