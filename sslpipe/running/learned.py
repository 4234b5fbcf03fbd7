"""What a training stage has learned, in one line."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from sslpipe.engine.checkpoint import State
from sslpipe.engine.method import BaseMethod
from sslpipe.io.console import duration

COLUMNS = {
    "held_out/view_retrieval@1": "held-out view retrieval@1",
    "monitor/held_out_acc": "held-out accuracy",
    "confident": "confident share",
    "modularity": "neighbour modularity",
    "penalty": "penalty",
    "labels": "labels",
}
"""Column of the history → what the line calls its last value."""


def learned(
    method: object,
    state: State | None,
    history: Sequence[Mapping[str, float]],
    outputs: Tensor | None,
    *,
    seconds: float = 0.0,
    clusters: bool = False,
) -> str:
    """Return what a method has learned: its loss, the used clusters, and the last values of COLUMNS.

    state: of the training loop; None for a method without one. seconds: of training.
    outputs: the network's, [N, K], for training images. clusters: whether they are clusters.
    """
    last = history[-1] if history else {}
    parts = [] if state is None else [loss_text(method, state), length_text(state, seconds)]
    if outputs is not None and clusters:
        counts = outputs.argmax(dim=1).bincount()
        largest = float(counts.max()) / len(outputs)
        parts.append(f"{int(counts.count_nonzero())} of {outputs.shape[1]} clusters used, the largest {largest:.0%}")
    parts += [f"{words} {_number(last[column])}" for column, words in COLUMNS.items() if column in last]
    return ", ".join(parts) or "complete as it was built, nothing was trained"


def _number(value: float) -> str:
    """Return a whole number in full, others with three digits."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def loss_text(method: object, state: State) -> str:
    """Return the loss of the first step and the mean of the last interval, and the value at chance if there is one.

    The first is left out where it had other terms than the last, as in a run of several phases.
    """
    last = state.history[-1]
    comparable = all(name in last for name in state.first)
    first = f"{state.first['loss'].item():.4g} → " if comparable else ""
    chance = method.chance_loss() if isinstance(method, BaseMethod) else None
    return f"loss {first}{last['loss']:.4g}" + ("" if chance is None else f" (chance {chance:.4g})")


def length_text(state: State, seconds: float) -> str:
    """Return the length of a run and its time in all processes, from its first start on."""
    epochs = state.history[-1]["epoch"]
    return f"{epochs:.4g} epoch{'' if epochs == 1 else 's'} in {duration(seconds)}"
