"""Weights of a backbone in a file: read, selected, and given timm's names."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, one_line
from sslpipe.nets.architectures import COUNT, is_classifier, likeness, nearest_architectures, order_of, shapes_of
from sslpipe.nets.timm_backbone import timm_translation
from sslpipe.nets.weights_packages import WHERE

DAMAGED = 0.9
"""Share of an architecture's shapes above which a file is one of its own, though not all tensors fit (own choice)."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, and which of them are the backbone's."""

    path: str
    prefix: str = ""
    """Beginning of their names, which is removed; weights with other names are left out."""
    leave_out: tuple[str, ...] = ()
    """Beginnings, after the prefix, of the names of further weights that are left out."""


@dataclass(frozen=True)
class FileContent:
    """What a file of weights contains."""

    weights: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the file says of itself beside the weights: metadata of a .safetensors file, top level of a .pth file."""


def read_weights(path: Path) -> FileContent:
    """Return the weights in a file; raises UserError for a file that is missing, unreadable or without weights."""
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                about = file.metadata() or {}
            return FileContent(safetensors.torch.load_file(path), about)
        # weights_only: reads tensors and plain containers and, unlike pickle, runs no code from the file.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"{WHERE}.weights: {path}: no such file; timm's own weights are named by network.architecture, such as "
            "resnet50.tv_in1k, with weights: null"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not readable as weights ({one_line(error)})") from None
    except Exception:  # torch raises many kinds of errors for a damaged file, with advice for programmers
        raise UserError(
            f"{path}: not readable as weights; expected named tensors and no objects that run code when loaded"
        ) from None
    about = content if isinstance(content, Mapping) else {}
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(each, Tensor) for each in content.values()):
        raise UserError(
            f"{path}: no named weights found, expected them at the top level or under 'state_dict' or 'model'"
        )
    return FileContent(content, about)


def selected(found: Mapping[str, Tensor], weights: WeightsFile, path: Path) -> Mapping[str, Tensor]:
    """Return the backbone's weights without their prefix, and print how many others are left out.

    Raises UserError for a prefix or a name to leave out that no weight has.
    """
    prefix, others = weights.prefix, weights.leave_out
    if not prefix and not others:
        return found
    own = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    for key, beginning, names in (("prefix", prefix, found), *(("leave_out", each, own) for each in others)):
        if not any(name.startswith(beginning) for name in names):
            first = ", ".join(list(names)[:3])
            raise UserError(
                f"{WHERE}.{key}: '{beginning}' found, which begins no name in {path}; its first are {first}"
            )
    kept = {name: value for name, value in own.items() if not name.startswith(others)}
    info(f"{path}: {len(kept)} of {len(found)} weights are the backbone's; {len(found) - len(kept)} are left out")
    return kept


def with_timms_names(
    weights: Mapping[str, Tensor], native: torch.nn.Module, architecture: str, path: Path
) -> dict[str, Tensor]:
    """Return a file's weights with the names that timm's model has, and print a line if they were others.

    native: timm's model for its own side, without a classifier. Names are changed only as far as needed: a prefix that
    all share and a classifier are removed; else timm's own translation is tried, which knows the names of original
    files; else the tensors are taken in order. Taking them in order is a guess, and a wrong network in silence is
    worse than an error. So the shapes must agree one by one, over the whole file, and the last parts of the names
    (weight, bias, running_mean) too, which fixes the place of batch norms between convolutions; what stays possible is
    a file that swaps neighbours of the same shape and kind, and a line says what was done and how to avoid it.
    Weights that fit in none of these ways are returned as they are.
    """
    children = {name for name, _ in native.named_children()}
    plain = _without_prefix(weights, children)
    expected = native.state_dict()
    translated = _without_classifier(plain, expected, architecture)
    if shapes_of(translated).keys() == shapes_of(expected).keys():
        return completed(translated, expected)
    theirs = _by_timm(plain, native, architecture)
    if theirs is not None:
        info(f"{path}: the names of its weights are not timm's; timm translates them for {architecture}")
        return completed(theirs, expected)
    order = order_of(shapes_of(plain), architecture)
    if order is None:
        return completed(translated, expected)
    pairs = list(order.items())
    info(
        f"{path}: the names of its weights are not timm's; they are taken in order, since all {len(order)} shapes "
        f"agree with {architecture}'s ({pairs[0][0]} is {pairs[0][1]}, ..., {pairs[-1][0]} is {pairs[-1][1]}); if that "
        "is wrong, give a file with timm's names"
    )
    return completed({own: plain[name] for name, own in pairs}, expected)


def nearest_hint(found: Mapping[str, Tensor], architecture: str, path: Path) -> str:
    """Return the end of an error: which architectures of timm the weights fit, or resemble most, if any.

    The names of the architecture in the settings and of the file say which are compared first. Weights with more than
    DAMAGED of the architecture's shapes are not searched for, since they are its own, of which some are missing.
    """
    own = architecture.partition(".")[0]
    shapes = shapes_of(_without_prefix(found, set()))
    if likeness(shapes, own).share > DAMAGED:
        return ""
    likely = nearest_architectures(shapes, [own, path.name.partition(".")[0]])
    if not likely or likely[0].architecture == own:
        return "; none of timm's architectures with similar names has these shapes"
    names = " or ".join(each.architecture for each in likely)
    return f"; did you mean network.architecture: {names}, {likely[0]}?"


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the content of a config.json beside a file of weights, as timm's files on the hub have; {} if none."""
    try:
        content = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}


def _without_prefix(weights: Mapping[str, Tensor], children: set[str]) -> Mapping[str, Tensor]:
    """Return weights without the prefixes that all their names share; children: names that are no prefix."""
    while weights and all("." in name for name in weights):
        first = {name.partition(".")[0] for name in weights}
        if len(first) > 1 or first <= children:
            break
        weights = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
    return weights


def _without_classifier(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], architecture: str
) -> dict[str, Tensor]:
    return {
        name: tensor for name, tensor in weights.items() if name in expected or not is_classifier(name, architecture)
    }


def _by_timm(weights: Mapping[str, Tensor], native: torch.nn.Module, architecture: str) -> dict[str, Tensor] | None:
    """Return weights with names as timm translates them; None if they do not fit, or if any was interpolated."""
    try:
        translated = _without_classifier(timm_translation(weights, native), native.state_dict(), architecture)
    except Exception:  # timm expects certain files, and fails in many ways for others
        return None
    if shapes_of(translated) != shapes_of(native.state_dict()):
        return None
    return translated if _sizes(translated) <= _sizes(weights) else None


def _sizes(weights: Mapping[str, Tensor]) -> Counter[int]:
    """Count the tensors of each number of values, without batch norms' counts of batches."""
    return Counter(tensor.numel() for name, tensor in weights.items() if not name.endswith(COUNT))


def completed(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in the types of `expected`, with the counts of batches that old files lack."""
    complete = {
        name: tensor.to(expected[name].dtype) if name in expected else tensor for name, tensor in weights.items()
    }
    for name, count in expected.items():
        stem, _, last = name.rpartition(".")
        if last == COUNT and f"{stem}.running_mean" in complete:
            complete.setdefault(name, torch.zeros_like(count, device="cpu"))
    return complete
