"""Learning rates as functions of the step."""

from dataclasses import dataclass
from math import cos, pi
from typing import Annotated, Literal

from sslpipe.io.settings import Fraction, NonNegative, Range


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """A factor on the learning rate that follows the step."""

    name: Literal["constant", "cosine", "cosine_7_16", "steps"] = "constant"
    """cosine: half a wave from 1 to `final`. cosine_7_16: cos(7πs/16S) (FixMatch, section 2.3). steps: see below."""
    warmup_epochs: NonNegative = 0.0
    """The factor rises linearly from 0 over as many epochs (Goyal et al. 2017)."""
    final: Fraction = 0.0
    """cosine: the factor at the end."""
    milestones: tuple[Fraction, ...] = (0.6, 0.8)
    """steps: shares of the run at which the factor is multiplied by `gamma`."""
    gamma: Annotated[float, Range(above=0, high=1)] = 0.1


def factor(settings: ScheduleSettings, step: int, total: int, steps_per_epoch: int) -> float:
    """The factor on the learning rate at a step (0-based) of `total` steps."""
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / warmup if warmup >= 1 else 1.0
    share = (step - warmup) / max(total - warmup, 1)
    if settings.name == "cosine":
        return half_cosine(1.0, settings.final, share)
    if settings.name == "cosine_7_16":
        return cos(7 * pi * share / 16)
    if settings.name == "steps":
        return float(settings.gamma ** sum(share >= milestone for milestone in settings.milestones))
    return 1.0


def half_cosine(first: float, last: float, share: float) -> float:
    """From `first` at share 0 to `last` at share 1 on half a wave."""
    return last + (first - last) * (1 + cos(pi * share)) / 2


def linear(first: float, last: float, share: float) -> float:
    """From `first` at share 0 straight to `last` at share 1, where it stays."""
    return first + (last - first) * min(1.0, share)
