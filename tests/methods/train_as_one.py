"""Train methods as one of several processes: `python train_as_one.py FOLDER RUN …`, a run being a name of METHODS.

Started once for each process, with RANK and WORLD_SIZE; process 0 saves the history and the state of each run. Before
the name, a run may have `exact:`, which computes in float64, `recompute:`, a name of FAULTS,
`stopped:` in the second step, or `resumed:` from there.
"""

import os
import signal
import sys
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import conftest
import torch
from every_method import METHODS, few_labels
from torch.nn import functional as F

from sslpipe.data import world
from sslpipe.data.batches import Batches, LabelledBatches, PairedBatches
from sslpipe.engine import trainer
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import fit
from sslpipe.neighbors import torch_search
from sslpipe.nets.network import BackboneSettings, Network, build_network
from sslpipe.nets.recompute import set_recompute
from sslpipe.views import mixing, operations
from sslpipe.views.draw import Draw

BATCH, LABELLED = 96, 18
SEARCH = "search"
"""A run that searches neighbours instead."""
PHASES = 5
"""Epochs of a method in phases; all others have one, of three steps."""


def skipping(network, images, forward=Network.forward):
    """What process 1 computes if it leaves a forward pass out."""
    return images.new_zeros(len(images) * world.size(), 128) if world.rank() else forward(network, images)


def same_draws(count, generator, rows):
    """The draws of process 0, whichever this is."""
    return Draw(count, generator, slice(0, None, world.total(1)))


def same_images(rows):
    """The first images, whichever process this is."""
    return rows[: len(rows) // world.total(1)]


def not_gathered(rows):
    """The own rows, instead of others'."""
    return torch.cat([rows] * world.total(1))


FAULTS = {
    "same draws": lambda: patch("sslpipe.views.policies.Draw", same_draws),
    "same images": lambda: patch.object(world, "own", same_images),
    "no gathering": lambda: patch.object(world, "gather", not_gathered),
    "own gradients": lambda: patch.object(trainer.world, "average_gradients", lambda parameters: None),
    "own statistics": lambda: patch("sslpipe.nets.network.synced_batch_norms", nullcontext),
    "skipped pass": lambda: patch.object(Network, "forward", skipping),
}
"""What each of the processes must do, left out."""


def forget():
    """Delete the tables that the views keep, which have the type of their first use."""
    operations._intervals.cache_clear()
    mixing._quantiles.cache_clear()


@contextmanager
def exact(method):
    """Let a method compute in float64, also where it asks for float32."""
    method.double()
    float32, as_float, skip = torch.float32, torch.Tensor.float, trainer.skip_update
    trainer.skip_update = lambda optimizer, skipped: skip(optimizer, None if skipped is None else skipped.to(float32))
    torch.Tensor.float, torch.float32 = torch.Tensor.double, torch.float64
    torch.set_default_dtype(torch.float64)
    forget()
    try:
        yield
    finally:
        forget()
        torch.Tensor.float, torch.float32, trainer.skip_update = as_float, float32, skip
        torch.set_default_dtype(float32)


def stopped_after(method, steps):
    """Let a method's process receive SIGINT in a step, as all others do."""
    after_step = method.after_step

    def stop():
        after_step()
        if method.progress.step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    method.after_step = stop


def train(name, digits, *, in_float64=False, recompute=False, checkpoint=None, stop=None):
    """History and state after the last step; stop: the step in which it is stopped."""
    torch.manual_seed(0)
    network = build_network(BackboneSettings(name="tiny_resnet"), conftest.INFO)
    settings, method = METHODS[name](digits, network)
    set_recompute(method, recompute)
    learner = getattr(method, "base", method)
    if hasattr(getattr(learner, "settings", None), "threshold"):
        learner.settings = replace(learner.settings, threshold=0.1)  # below all confidences, so that terms count
    stream = Batches(digits[0], BATCH, seed=0, needs=method.needs())
    if hasattr(settings, "labelled_batch"):
        stream = PairedBatches(stream, LabelledBatches(few_labels(digits), LABELLED, seed=0))
    optimizer = replace(settings.fit.optimizer, lr=1e-3)
    epochs = PHASES if learner is not method else 1
    chosen = replace(settings.fit, batch=BATCH, optimizer=optimizer, epochs=epochs)
    if stop:
        stopped_after(method, stop)
    with exact(method) if in_float64 else nullcontext(), suppress(*[KeyboardInterrupt] if stop else []):
        state = fit(method, stream, chosen, where=name, seed=0, checkpoint=Checkpoint(checkpoint, 1e9))
    if stop:
        return None
    return state.history, {key: value.clone() for key, value in method.state_dict().items()}


def searched(*, shared):
    """Neighbours among few different vectors, in many tiles: of each other, and of some of them."""
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randint(-3, 4, (1000, 8), generator=generator).float(), dim=1)
    options = {"bank": rows, "advance": lambda count: None, "tile": 96, "shared": shared}
    found = [torch_search.search(rows, k=20, exclude_self=True, **options)]
    found.append(torch_search.search(rows[:333], k=70, exclude_self=False, **options))
    return [torch.from_numpy(array) for arrays in found for array in arrays]


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    digits = conftest.digits._get_wrapped_function()()
    with world.joined(torch.device("cpu")):
        for run in sys.argv[2:]:
            *parts, name = run.split(":")
            faults = [FAULTS[part]() for part in parts if part in FAULTS]
            if run == SEARCH:
                torch.save(searched(shared=True), folder / f"{run}{world.rank()}.pt")
                continue
            with faults[0] if faults else nullcontext():
                found = train(
                    name,
                    digits,
                    in_float64="exact" in parts,
                    recompute="recompute" in parts,
                    checkpoint=folder / "checkpoint" if {"stopped", "resumed"} & {*parts} else None,
                    stop=2 if "stopped" in parts else None,
                )
            if world.rank() == 0:
                torch.save(found, folder / f"{run.replace('/', '-')}.pt")


if __name__ == "__main__":
    main()
