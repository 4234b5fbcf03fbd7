"""Temperature of a softmax by its mean confidence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

MOST = 0.99
"""Largest mean confidence that is asked for, so that no probability is fixed at 0 or 1."""
STEPS = 60
"""Bisections of the logarithm of the temperature, from some 1e-6 to 1e6 times the scores' spread."""


def temperature_of(scores: NDArray[Any], confidence: float) -> float:
    """Return τ such that the mean of max softmax(scores / τ) equals `confidence`.

    scores: [N, K]. confidence: limited to between a little more than 1 / K, which equal probabilities have, and MOST.
    The mean falls as τ rises, from 1 to 1 / K, so a bisection finds it. Scores that do not differ have τ = 1.
    """
    scores = np.asarray(scores, dtype=np.float64)
    spread = float((scores.max(axis=1) - scores.min(axis=1)).mean())
    if spread == 0:
        return 1.0
    least = 1 / scores.shape[1]
    wanted = min(max(confidence, least + 0.01 * (1 - least)), MOST)
    low, high = np.log(spread) - 14, np.log(spread) + 14
    for _ in range(STEPS):
        middle = (low + high) / 2
        if softmax(scores / np.exp(middle), axis=1).max(axis=1).mean() > wanted:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))
