"""A published network of timm, used without training: its weights, and the preprocessing that they expect."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, one_line
from sslpipe.nets.model_file import check_weights
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.preprocessing import InputSettings
from sslpipe.nets.timm_backbone import timm_config

WHERE = "pretrain.frozen"
"""Key of the settings in params.yaml, for error messages."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, and which of them are the backbone's."""

    path: str
    prefix: str = ""
    """Beginning of their names, which is removed; weights with other names are left out."""
    leave_out: tuple[str, ...] = ()
    """Beginnings, after the prefix, of the names of further weights that are left out."""


def published_network(
    backbone: BackboneSettings, weights: WeightsFile | None, *, channels: int, download: bool
) -> Network:
    """Return a network without a head, in eval mode, with published weights and the preprocessing that they expect.

    backbone: a backbone of timm; its architecture names the tag of the weights, unless they are in a file.
    weights: a file with timm's names; None means the weights that timm offers. channels: number of image channels, 1
    or 3. download: whether weights that are not on this machine may be downloaded.
    The state of torch's generator does not change. Raises UserError for a backbone that is not timm's, for weights that
    are missing or cannot be read or downloaded, and for those of another architecture.
    """
    if backbone.name != "timm" or backbone.architecture is None:
        raise UserError(
            f"network: name {backbone.name} and architecture {backbone.architecture or 'null'} found, expected name "
            "timm and one of its architectures, such as resnet50.tv_in1k, whose weights are published"
        )
    file = Path(weights.path).expanduser() if weights else None
    config = timm_config(backbone.architecture)
    with torch.random.fork_rng(devices=[]):
        input = _input(config, is_known=file is None or "." in backbone.architecture)
        _check_side(backbone, input)
        network = Network(backbone, mean=config.mean, std=config.std, input=input, channels=channels)
        found = _read(file) if file else _timm_weights(backbone.architecture, config, download=download)
        if file and weights and (weights.prefix or weights.leave_out):
            found = _selected(found, weights, file)
    model = network.backbone.model
    assert isinstance(model, torch.nn.Module)
    if file:
        found = _translated(found, model, config.classifier or ())
    title = f"timm's {backbone.architecture}"
    check_weights(found, model.state_dict(), str(file or title), of=title, advice="use other weights")
    model.load_state_dict(found)
    return network.eval()


def _check_side(backbone: BackboneSettings, input: InputSettings) -> None:
    """Raise UserError if the network is to see squares of another side than its weights expect."""
    if backbone.side not in (None, input.crop):
        raise UserError(
            f"network.side: {backbone.side} found, expected {input.crop}, to which images are cropped for "
            f"{backbone.architecture}, or null"
        )


def _input(config: Any, *, is_known: bool) -> InputSettings:
    """Return how images are prepared for weights; is_known: whether `config` is that of the weights.

    Images for other weights are resized to 256 for crops of 224 px, bilinearly, as in the public code of MoCo v2, SwAV
    and SCAN; timm's own preprocessing differs from one of its weights to the other.
    """
    _, height, width = config.input_size
    if height != width or config.crop_pct > 1:
        raise UserError(
            f"network.architecture: '{config.architecture}' found, whose images are {height}×{width} px, "
            f"{config.crop_pct:g} of the resized ones; expected squares and at most 1; use another one"
        )
    if not is_known:
        return InputSettings(resize=height * 256 // 224, crop=height, interpolation="bilinear")
    # The size is rounded down, as in timm's own evaluation.
    return InputSettings(resize=floor(height / config.crop_pct), crop=height, interpolation=config.interpolation)


def _timm_weights(architecture: str, config: Any, *, download: bool) -> Mapping[str, Tensor]:
    """Return the weights that timm offers, from the Hugging Face hub's cache or, if `download` is set, downloaded."""
    import timm
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    if not config.has_weights:
        raise UserError(
            f"network.architecture: timm has no weights for {architecture}; use another architecture, or set "
            f"{WHERE}.weights to a file"
        )
    if "." not in architecture:
        raise UserError(
            f"network.architecture: '{architecture}' found, expected the tag of its weights too, such as "
            f"{architecture}.{config.tag}"
        )
    names = ("model.safetensors", "pytorch_model.bin") if config.hf_hub_id else ()
    cached = [path for name in names if isinstance(path := try_to_load_from_cache(config.hf_hub_id, name), str)]
    url = hf_hub_url(config.hf_hub_id, names[0]) if names else config.url
    advice = f"download {url} on another machine and set {WHERE}.weights to the file"
    if not cached and not download:
        raise UserError(
            f"{WHERE}.weights: timm's {architecture} not found on this machine; set {WHERE}.download: true, or {advice}"
        )
    # A file is read without asking the hub. With the classifier, timm refuses files that lack weights.
    place = {"file": cached[0], "custom_load": False} if cached else {}
    try:
        model: Any = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=place)
    except Exception as error:  # of a damaged file, from the operating system, or one of several HTTP clients
        if cached:
            raise UserError(f"{cached[0]}: not readable as weights of {architecture} ({one_line(error)})") from None
        raise UserError(
            f"{WHERE}.weights: timm's {architecture} cannot be downloaded ({one_line(error)}); {advice}"
        ) from None
    model.reset_classifier(0)
    weights: Mapping[str, Tensor] = model.state_dict()
    return weights


def _read(path: Path) -> Mapping[str, Tensor]:
    """Return the weights in a file; raises UserError for a file that is missing, unreadable or without weights."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
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
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(each, Tensor) for each in content.values()):
        raise UserError(
            f"{path}: no named weights found, expected them at the top level or under 'state_dict' or 'model'"
        )
    return content


def _selected(found: Mapping[str, Tensor], weights: WeightsFile, path: Path) -> Mapping[str, Tensor]:
    """Return the backbone's weights without their prefix, and print how many others are left out.

    Raises UserError for a prefix or a name to leave out that no weight has.
    """
    prefix, others = weights.prefix, weights.leave_out
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


def _translated(
    weights: Mapping[str, Tensor], model: torch.nn.Module, classifiers: str | Collection[str]
) -> dict[str, Tensor]:
    """Return a file's weights as the model has them: without a prefix that all names share, and without classifiers.

    Old files lack the batch norms' counts of batches, which are not used here.
    """
    children = {name for name, _ in model.named_children()}
    while weights and all("." in name for name in weights):
        first = {name.partition(".")[0] for name in weights}
        if len(first) > 1 or first <= children:
            break
        weights = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
    prefixes = tuple(f"{name}." for name in ((classifiers,) if isinstance(classifiers, str) else classifiers))
    expected = model.state_dict()
    translated = {}
    for name, tensor in weights.items():
        if name in expected:
            translated[name] = tensor.to(expected[name].dtype)
        elif not name.startswith(prefixes):
            translated[name] = tensor
    for name, count in expected.items():
        stem, _, last = name.rpartition(".")
        if last == "num_batches_tracked" and f"{stem}.running_mean" in translated:
            translated.setdefault(name, count)
    return translated
