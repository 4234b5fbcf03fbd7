"""A run that is stopped and resumed on the GPU, and one that is begun on the CPU and resumed on the GPU.

Each is compared with a run without a break. On one device, with its own draws and precision, the difference is that of
two equal runs, 0 where all kernels sum in a fixed order. From the CPU, in float32 and with its draws, it is rounding.
"""

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.gpu.methods import comparable, names, trainer
from benchmarks.gpu.plan import Facts, Outcome, Plan
from benchmarks.gpu.same import flat, relative
from sslpipe.engine.checkpoint import Checkpoint, State
from sslpipe.engine.trainer import Trainer
from sslpipe.io.console import info

METHODS = ("pretrain/simclr", "pretrain/dino", "cluster/scan", "semisup/simmatch temporal")
"""Two with memories of their own, one with other images, one with labels."""
BREAK, STEPS = 4, 8
LOSS, WEIGHTS = 0.02, 0.2
"""The largest differences of the last loss, relative, and of the weights, over the norm of their change. Measured on a
CPU: sums in another order make up to 5.3e-3 and 0.055, an optimiser's state that is lost 0.36 to 0.65 of the weights,
DINO's teacher 0.19 of the loss. The loss of SimMatch's memory is hidden in rounding; bit for bit, it would be seen."""


def steps(trained: Trainer, first: int, last: int) -> float:
    """Take steps and return the last loss."""
    for step in range(first, last):
        terms = trained.step(step)
    return float(terms["loss"])


def resumed(name: str, begun: torch.device, ended: torch.device) -> dict[str, float]:
    """Return the differences of a run that is moved to another trainer and device from one without a break on it."""
    with comparable("float32") if begun != ended else nullcontext():
        whole = trainer(name, ended)
        start = flat(whole.method)
        expected = steps(whole, 0, STEPS)
        broken = trainer(name, begun)
        steps(broken, 0, BREAK)
        other = trainer(name, ended)
        with TemporaryDirectory() as folder:
            Checkpoint(Path(folder) / "run", 1e9).save(State(step=BREAK), broken.method, broken.optimizer)
            state = Checkpoint(Path(folder) / "run", 1e9).load(other.method, other.optimizer)
        loss = steps(other, state.step, STEPS)
    change = (flat(whole.method) - start).norm().clamp_min(1e-12)
    weights = float((flat(other.method) - flat(whole.method)).norm() / change)
    return {"step": state.step, "loss": relative(loss, expected), "weights": weights}


def measure(plan: Plan, facts: Facts) -> Outcome:
    chosen = [name for name in METHODS if name in names(plan)]
    pairs = {f"{name} begun on {device.type}": (name, device)
             for name in chosen for device in dict.fromkeys((plan.device, torch.device("cpu")))}  # fmt: skip
    for key, (name, device) in pairs.items():
        if not plan.is_over and key not in facts:
            facts[key] = resumed(name, device, plan.device)
            info(f"{key}: loss {facts[key]['loss']:.1e}, weights {facts[key]['weights']:.1e}")
    found = {key: facts[key] for key in pairs if key in facts}
    bad = [f"{key}: begins again at step {each['step']}, loss {each['loss']:.1e}, weights {each['weights']:.1e}"
           for key, each in found.items()
           if each["step"] != BREAK or not (each["loss"] <= LOSS and each["weights"] <= WEIGHTS)]  # fmt: skip
    equal = sum(each["loss"] == each["weights"] == 0 for each in found.values())
    largest = max((each["weights"] for each in found.values()), default=0.0)
    line = f"{len(found)} of {len(pairs)} runs, {equal} bit for bit, weights at most {largest:.1e} apart"
    return Outcome(line, tuple(bad), done=len(found) == len(pairs))
