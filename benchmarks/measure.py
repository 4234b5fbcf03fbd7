"""Interleave the competing implementations, so that a busy machine slows all of them; report ratios within a round."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch

Implementations = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of all rounds' values."""
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(median(values), low, high)

    def __str__(self) -> str:
        return f"{_three(self.median)} ({_three(self.low)} to {_three(self.high)})"


def _three(value: float) -> str:
    """Three figures at least, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Rounds:
    """Seconds of each implementation, round by round."""

    seconds: dict[str, list[float]]

    def time(self, name: str) -> Spread:
        """Seconds."""
        return Spread.of(self.seconds[name])

    def rate(self, name: str, count: int) -> Spread:
        """Of `count` things done in each round, how many a second."""
        return Spread.of([count / taken for taken in self.seconds[name]])

    def ratio(self, name: str, over: str) -> Spread:
        """Time of one over that of another, within each round."""
        return Spread.of([a / b for a, b in zip(self.seconds[name], self.seconds[over], strict=True)])


def interleave(implementations: Implementations, *, rounds: int, warmup: int = 1) -> Rounds:
    """Time every implementation once per round, after `warmup` rounds that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in implementations}
    for number in range(-warmup, rounds):
        for name, work in implementations.items():
            _synchronize()
            start = time.perf_counter()
            work()
            _synchronize()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return Rounds(seconds)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
