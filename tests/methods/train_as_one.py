"""Train every method as one of several processes, in float64: `python train_as_one.py FOLDER METHOD …`.

Started once for each process, with RANK and WORLD_SIZE; process 0 saves the history and the state of each method.
"""

import os
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import conftest
import torch
from every_method import METHODS, few_labels

from sslpipe.data import world
from sslpipe.data.batches import Batches, LabelledBatches, PairedBatches
from sslpipe.engine import trainer
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import fit
from sslpipe.nets.network import BackboneSettings, build_network

EXACT = "EXACT" in os.environ

BATCH, LABELLED, EPOCHS = 150, 18, 2
LONG = {"semisup/alternation": 5, "semisup/alternation public": 5}


@contextmanager
def wide(method):
    """Let a method compute in float64, also where it asks for float32."""
    method.double()
    float32, as_float, skip = torch.float32, torch.Tensor.float, trainer.skip_update
    trainer.skip_update = lambda optimizer, skipped: skip(optimizer, None if skipped is None else skipped.to(float32))
    torch.Tensor.float, torch.float32 = torch.Tensor.double, torch.float64
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.Tensor.float, torch.float32, trainer.skip_update = as_float, float32, skip
        torch.set_default_dtype(float32)


def train(name, digits, folder):
    """Two epochs of two steps, five of a method in phases; returns history and state."""
    torch.manual_seed(0)
    network = build_network(BackboneSettings(name="tiny_resnet"), conftest.INFO)
    settings, method = METHODS[name](digits, network)
    stream = Batches(digits[0], BATCH, seed=0)
    if hasattr(settings, "labelled_batch"):
        stream = PairedBatches(stream, LabelledBatches(few_labels(digits), LABELLED, seed=0))
    optimizer = replace(settings.fit.optimizer, lr=0.01)
    chosen = replace(settings.fit, batch=BATCH, optimizer=optimizer, epochs=LONG.get(name, EPOCHS))
    with wide(method) if EXACT else nullcontext():
        state = fit(method, stream, chosen, where=name, seed=0, checkpoint=Checkpoint(folder, 1e9))
    return state.history, {key: value.clone() for key, value in method.state_dict().items()}


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    digits = conftest.digits._get_wrapped_function()()
    with world.joined(torch.device("cpu")):
        for name in sys.argv[2:]:
            found = train(name, digits, None)
            if world.rank() == 0:
                torch.save(found, folder / f"{name.replace('/', '-')}.pt")


if __name__ == "__main__":
    main()
