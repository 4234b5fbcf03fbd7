"""Every method takes three steps with the same random draws on the CPU and on the GPU: terms and weights must agree.

The steps are those of training, with each method's own optimiser, on tiny networks (tests/methods/every_method.py). The
GPU computes once in float32, without TF32, and once in bfloat16, as by default.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.methods import comparable, names, trainer
from benchmarks.gpu.plan import Facts, Outcome, Plan
from sslpipe.io.console import info

STEPS = 3
START = 1e-4
"""The largest relative difference of the start values of all weights: some are computed from images (own choice)."""
FLOOR = 0.01
"""Terms below this are compared with this value instead of their own: shares and losses near 0 have no relative
difference (own choice)."""


@dataclass(frozen=True)
class Bound:
    """The largest differences that rounding explains."""

    loss: float
    """Of the loss of the first step, relative."""
    terms: float
    """Of any term of the first step, relative."""
    update: float
    """Of the change of all weights in the first step: the norm of the difference over the norm of the change."""
    last: float
    """Of the loss of the last step, relative."""


BOUNDS = {
    "float32": Bound(loss=1e-5, terms=1e-4, update=0.1, last=5e-3),
    "bfloat16": Bound(loss=0.02, terms=0.15, update=0.8, last=0.2),
}
"""Of rounding alone, measured on a CPU over all methods, the largest differences are:
float32 with sums in another order (without oneDNN, 2 threads instead of 1) 4.7e-7, 1.9e-6, 0.022 and 8.9e-5;
bfloat16 from float32 1.5e-3, 0.025, 0.45 and 0.04.
The bounds are 4 to 60 times the first and 1.7 to 14 times the second (own choice). Updates differ most, since Adam's
first step has the size of the learning rate for every weight: one whose gradient near 0 changes its sign moves by twice
that. In bfloat16 a term may count one image of 75 more, and later losses have a pseudo-label more or less."""


@dataclass(frozen=True)
class Steps:
    """What the steps of a method leave."""

    start: Tensor
    """All weights before, float32 [P], on the CPU."""
    terms: list[dict[str, float]]
    """Of each step."""
    weights: list[Tensor]
    """All weights after each step, as `start`."""


def flat(method: torch.nn.Module) -> Tensor:
    """Return all weights of a method, [P], on the CPU."""
    return torch.cat([weight.detach().float().cpu().flatten() for weight in method.parameters()])


def take(name: str, device: torch.device, number: str, state: Mapping[str, Any] | None = None) -> Steps:
    """Take the steps of a method.

    number: float32 or bfloat16, of CUDA; a CPU always computes in float32. state: of the method at the start.
    """
    with comparable(number):
        trained = trainer(name, device)
        if state is not None:
            trained.method.load_state_dict(state)
        start, terms, weights = flat(trained.method), [], []
        for step in range(STEPS):
            found = trained.step(step)
            terms.append({key: float(value) for key, value in found.items()})
            weights.append(flat(trained.method))
    return Steps(start, terms, weights)


def relative(found: float, expected: float) -> float:
    """Return the relative difference of two values of a term; infinite if one of them alone is not finite."""
    if not (isfinite(found) and isfinite(expected)):
        return 0.0 if found == expected else float("inf")
    return abs(found - expected) / max(abs(expected), FLOOR)


def differences(found: Steps, expected: Steps) -> dict[str, float]:
    """Return the differences of two runs: of the first step as in `Bound`, and the loss of the last one."""
    pairs = [{key: relative(a.get(key, float("nan")), b[key]) for key in b}
             for a, b in zip(found.terms, expected.terms, strict=True)]  # fmt: skip
    change = (expected.weights[0] - expected.start).norm().clamp_min(1e-12)
    update = ((found.weights[0] - found.start) - (expected.weights[0] - expected.start)).norm() / change
    return {
        "loss": pairs[0]["loss"],
        "terms": max(pairs[0].values()),
        "update": float(update),
        "last": pairs[-1]["loss"],
    }


def beyond(found: Mapping[str, float], bound: Bound) -> list[str]:
    """Return the differences that are beyond their bounds, in words."""
    limits = asdict(bound)
    return [f"{key} {found[key]:.2g} > {limit:g}" for key, limit in limits.items() if not found[key] <= limit]


def compare(name: str, device: torch.device) -> dict[str, dict[str, float]]:
    """Return number → the differences of a method's steps on a device from those on the CPU in float32.

    Both begin with the same weights; "start" is the difference of those that each device would have begun with.
    """
    cpu = torch.device("cpu")
    state = trainer(name, cpu).method.state_dict()
    expected = take(name, cpu, "float32", state)
    own = flat(trainer(name, device).method)
    start = float((own - expected.start).norm() / expected.start.norm())
    return {
        number: {**differences(take(name, device, number, state), expected), "start": start} for number in BOUNDS
    }  # fmt: skip


def measure(plan: Plan, facts: Facts) -> Outcome:
    chosen = names(plan)
    for name in chosen:
        if plan.is_over:
            break
        if name not in facts:
            facts[name] = compare(name, plan.device)
            info(f"{name}: " + "; ".join(f"{number} {_shown(found)}" for number, found in facts[name].items()))
    found = {name: facts[name] for name in chosen if name in facts}
    bad = [f"{name}, {number}: {', '.join(words)}" for name, by_number in found.items()
           for number, each in by_number.items() if (words := beyond(each, BOUNDS[number]))]  # fmt: skip
    bad += [f"{name}: start values {each['float32']['start']:.2g} apart"
            for name, each in found.items() if not each["float32"]["start"] <= START]  # fmt: skip
    largest = "; ".join(
        f"{number} at most {_shown({key: max(each[number][key] for each in found.values()) for key in asdict(bound)})}"
        for number, bound in BOUNDS.items() if found
    )  # fmt: skip
    line = f"{len(found)} of {len(chosen)} methods, {len(bad)} bad; {largest}"
    return Outcome(line, tuple(bad), done=len(found) == len(chosen))


def _shown(found: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.1e}" for key, value in found.items() if key != "start")
