"""Views of the next step, drawn in a CUDA graph on a second stream: the step's time with and without, and equal terms.

Some kernels of the backward pass sum in any order, so that two equal runs may differ from the second step on: a run is
compared with a second one of the same kind first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks import steps
from benchmarks.gpu.methods import OFF, variables
from benchmarks.gpu.plan import Facts, Outcome, Plan
from benchmarks.gpu.steps import IMAGES, SIDE, network_of, published
from benchmarks.measure import interleave
from sslpipe.engine.ahead import AHEAD as VIEWS_AHEAD
from sslpipe.engine.trainer import Trainer
from sslpipe.io.console import info

AHEAD, WITHIN = "ahead", "in the step"
STEPS, ROUNDS = 20, 7


def terms(trained: Trainer, count: int) -> list[dict[str, float]]:
    """Take steps and return the terms of each."""
    found = [trained.step(step) for step in range(count)]
    return [{name: float(value) for name, value in each.items()} for each in found]


def compare(plan: Plan, stage: str, method: str, block: dict[str, Any]) -> dict[str, Any]:
    """Return how many of some steps have other terms than without views ahead, and the milliseconds of a step."""
    batch, count = (8, 3) if plan.tiny else (block["fit"]["batch"], STEPS)
    setup = steps.Setup(
        network_of(method, plan), steps.images(64 if plan.tiny else IMAGES, 3, SIDE, plan.device), batch
    )
    trained = {}
    for name in (AHEAD, WITHIN, "again"):
        with variables({} if name == AHEAD else {VIEWS_AHEAD: OFF}):
            trained[name] = steps.trainer(stage, method, block, setup)
    with deterministic():
        found = {name: terms(each, count) for name, each in trained.items()}
    differ = {name: [a != b for a, b in zip(found[name], found[WITHIN], strict=True)] for name in (AHEAD, "again")}
    taken = dict.fromkeys(trained, count)

    def some(name: str) -> None:
        for _ in range(count):
            trained[name].step(taken[name])
            taken[name] += 1

    pair = {name: lambda name=name: some(name) for name in (AHEAD, WITHIN)}
    turns = interleave(pair, rounds=1 if plan.tiny else ROUNDS)
    return {
        **{"steps": count, "first differs": differ[AHEAD][0], "differ": sum(differ[AHEAD])},
        **{"equal runs differ": sum(differ["again"]), "ratio": turns.ratio(AHEAD, WITHIN).median},
        "ms": {name: 1000 * turns.time(name).median / count for name in pair},
    }


@contextmanager
def deterministic() -> Iterator[None]:
    """Let cuDNN take kernels that sum in a fixed order during the block."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def wrong(found: dict[str, Any]) -> bool:
    """Return whether the terms with views ahead differ by more than two equal runs do."""
    return found["first differs"] or (found["differ"] > 0 and not found["equal runs differ"])


def measure(plan: Plan, facts: Facts) -> Outcome:
    todo = published(plan)
    for (stage, method), block in todo.items():
        if not plan.is_over and method not in facts:
            facts[method] = compare(plan, stage, method, block)
            info(f"{method}: {facts[method]}")
    found = {method: facts[method] for _, method in todo if method in facts}
    bad = [f"{method}: {each['differ']} of {each['steps']} steps have other terms than without views ahead"
           for method, each in found.items() if wrong(each)]  # fmt: skip
    line = "step with views ahead over without: " + ", ".join(
        f"{name} {each['ratio']:.2f}" for name, each in found.items()
    )
    return Outcome(line, tuple(bad), done=len(found) == len(todo))
