"""timm's architectures compared by the names and shapes of their tensors; no memory is needed for the weights."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from re import findall
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from sslpipe.nets.timm_backbone import timm_config

SECONDS = 6.0
"""Longest search for an architecture, seconds (own choice: some 60 architectures, nearest names first)."""
SIMILAR_NAMES = 24
"""Architectures that are compared to find those with the same tensors (own choice)."""
WORTH_NAMING = 0.5
"""Least share of tensors with the same shapes for an architecture that is named as the nearest (own choice)."""
COUNT = "num_batches_tracked"
"""Last part of the names of batch norms' counts of batches, which old files lack and which are not used."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor, in order."""


@dataclass(frozen=True)
class Likeness:
    """How well the tensors of a file fit an architecture."""

    architecture: str
    by_name: bool
    """Names and shapes are the same."""
    in_order: bool
    """The shapes are the same one by one, and the last parts of the names."""
    share: float
    """Share of the tensors whose shapes both have."""

    @property
    def fits(self) -> bool:
        """Whether the weights can be those of the architecture."""
        return self.by_name or self.in_order

    def __str__(self) -> str:
        if self.by_name:
            return "which has the same tensors"
        if self.in_order:
            return "onto which the tensors map in order"
        return f"which has {self.share:.0%} of the tensors' shapes"


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors, in their order, without batch norms' counts of batches."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items() if not name.endswith(COUNT)}


@lru_cache(maxsize=512)
def meta_model(architecture: str) -> Any:
    """Return timm's model with its classifier on torch's meta device, which allocates nothing; None if it cannot be.

    The state of torch's generator does not change.
    """
    import timm

    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return timm.create_model(architecture)
    except Exception:  # some architectures compute with their weights while they are built
        return None


def is_classifier(name: str, architecture: str) -> bool:
    """Return whether a tensor of timm's model is the classifier's, by its name."""
    layers = timm_config(architecture).classifier or ()
    return name.startswith(tuple(f"{layer}." for layer in ((layers,) if isinstance(layers, str) else layers)))


def body_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an architecture's tensors without its classifier; empty if it cannot be built."""
    model = meta_model(architecture)
    shapes = {} if model is None else shapes_of(model.state_dict())
    return {name: shape for name, shape in shapes.items() if not is_classifier(name, architecture)}


def order_of(found: Shapes, architecture: str) -> dict[str, str] | None:
    """Return timm's name of each of a file's tensors, in order, without those of the classifier; None if they differ.

    The order is that of timm's model, with its classifier or without. The shapes must be the same one by one, and so
    must be the last parts of the names, such as running_mean. The classifier's shapes are not compared, since a file
    may have another number of classes.
    """
    model = meta_model(architecture)
    if model is None:
        return None
    whole = shapes_of(model.state_dict())
    body = [name for name in whole if not is_classifier(name, architecture)]
    expected = next((names for names in (list(whole), body) if len(names) == len(found)), None)
    if expected is None:
        return None
    order = {}
    for (name, shape), own in zip(found.items(), expected, strict=True):
        if name.rpartition(".")[2] != own.rpartition(".")[2]:
            return None
        if not is_classifier(own, architecture):
            if shape != whole[own]:
                return None
            order[name] = own
    return order


def likeness(found: Shapes, architecture: str) -> Likeness:
    """Compare the tensors of a file with an architecture's."""
    body = body_shapes(architecture)
    own = {name: shape for name, shape in found.items() if name in body or not is_classifier(name, architecture)}
    ours, theirs = Counter(body.values()), Counter(own.values())
    share = (ours & theirs).total() / max((ours | theirs).total(), 1)
    return Likeness(architecture, bool(body) and own == body, order_of(found, architecture) is not None, share)


def nearest_architectures(found: Shapes, names: Sequence[str]) -> list[Likeness]:
    """Return the architectures of timm that a file's tensors fit, or else the one with most of their shapes.

    names: those that the architecture may resemble, such as the file's and the one in the settings; the architectures
    with the most similar names are compared first, until one fits, to which its twins are added, or SECONDS are over.
    An empty list: none of those compared has WORTH_NAMING of the tensors' shapes.
    """
    end = monotonic() + SECONDS
    best: Likeness | None = None
    for name in _by_name(names):
        each = likeness(found, name)
        if each.fits:
            return [each, *(replace(each, architecture=twin) for twin in twins(name))]
        if best is None or each.share > best.share:
            best = each
        if monotonic() > end:
            break
    return [best] if best and best.share >= WORTH_NAMING else []


@lru_cache(maxsize=64)
def twins(architecture: str) -> tuple[str, ...]:
    """Return the other architectures whose tensors have exactly the same names and shapes, without classifiers.

    Only SIMILAR_NAMES are compared: those with the same numbers in their names, such as efficientnet_lite0 and
    tf_efficientnet_lite0, or vit_small_patch16_224 and deit_small_patch16_224.
    """
    import timm

    own = architecture.partition(".")[0]
    body = body_shapes(own)
    numbers = findall(r"\d+", own)
    similar = (name for name in _by_name([own]) if name != own and findall(r"\d+", name) == numbers)
    few = [name for name, _ in zip(similar, range(SIMILAR_NAMES), strict=False)]
    return tuple(name for name in few if body and timm.is_model(name) and body_shapes(name) == body)


def _by_name(names: Sequence[str]) -> Iterator[str]:
    """Return all architectures of timm, those first whose names are most similar to one of `names`."""
    import timm

    given = [name.lower().replace("-", "_") for name in names if name]

    def similarity(candidate: str) -> float:
        return max((SequenceMatcher(None, candidate, name).ratio() for name in given), default=0.0)

    return iter(sorted(timm.list_models(), key=lambda name: (-similarity(name), name)))
