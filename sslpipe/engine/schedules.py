"""Schedules of the learning rate and of other quantities."""

from dataclasses import dataclass
from math import cos, pi
from typing import Annotated, Literal

from sslpipe.io.errors import UserError
from sslpipe.io.settings import Fraction, NonNegative, Range


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """Schedule of the learning rate: a factor as a function of the step."""

    name: Literal["constant", "cosine", "cosine_7_16", "steps"] = "constant"
    """cosine: half a cosine wave from 1 to `final`. cosine_7_16: cos(7πs/16S) at step s of S (FixMatch,
    arXiv:2001.07685, section 2.3). steps: changes at each of the `milestones`, by `gamma` or to one of `values`."""
    warmup_epochs: NonNegative = 0.0
    """Epochs over which the factor rises linearly from 0 to 1 (Goyal et al. 2017, arXiv:1706.02677). Larger: a gentler
    start, and less of the run at the full rate."""
    final: Fraction = 0.0
    """Factor at the end of the run, for cosine. Larger: the rate falls less; 1: it stays constant."""
    milestones: tuple[Fraction, ...] = (0.6, 0.8)
    """Fractions of the run after warmup at which the factor changes, for steps. Larger: the rate falls later."""
    gamma: Annotated[float, Range(above=0, high=1)] = 0.1
    """Multiplier of the factor at each milestone, for steps without `values`. Larger: a smaller fall; 1: none."""
    values: tuple[NonNegative, ...] = ()
    """The factor from each milestone on, for steps; it may rise, as in Feature Decoupling's public code. Empty: the
    powers of `gamma`. Larger: a higher rate from that milestone on."""

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(self.milestones):
            raise UserError(f"milestones: {list(self.milestones)} found, expected them in ascending order")
        if self.values and len(self.values) != len(self.milestones):
            raise UserError(
                f"values: {len(self.values)} found, expected {len(self.milestones)}, one for each of the milestones"
            )


def factor(settings: ScheduleSettings, step: int, total: int, steps_per_epoch: int) -> float:
    """Return the factor on the learning rate at a step (0-based) of `total` steps."""
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / warmup if warmup >= 1 else 1.0
    share = (step - warmup) / max(total - warmup, 1)
    if settings.name == "cosine":
        return half_cosine(1.0, settings.final, share)
    if settings.name == "cosine_7_16":
        return cos(7 * pi * share / 16)
    if settings.name == "steps":
        passed = sum(share >= milestone for milestone in settings.milestones)
        if settings.values:
            return (1.0, *settings.values)[passed]
        return float(settings.gamma**passed)
    return 1.0


def half_cosine(first: float, last: float, share: float) -> float:
    """Interpolate from `first` at share 0 to `last` at share 1 along half a cosine wave."""
    return last + (first - last) * (1 + cos(pi * share)) / 2


def linear(first: float, last: float, share: float) -> float:
    """Interpolate linearly from `first` at share 0 to `last` at share 1; `last` for larger shares."""
    return first + (last - first) * min(1.0, share)
