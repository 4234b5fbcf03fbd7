"""A published network, used without training: weights from torchvision, timm or a file, with their preprocessing.

Both libraries are imported where they are used, as in `libraries`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import floor
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sslpipe.io.errors import UserError, nearest
from sslpipe.nets.libraries import (
    LIBRARIES,
    InputSettings,
    Published,
    check_torchvision,
    find_timm,
    one_line,
    timm_names,
)
from sslpipe.nets.network import BackboneSettings, Network

FILES = (".safetensors", ".pth", ".pt")
"""Extensions of files of weights."""
WHERE = "pretrain.frozen"
"""Key of the settings in params.yaml, for error messages."""


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Published weights: where they are, and the preprocessing that they expect."""

    title: str
    """Name of the weights for messages."""
    backbone: BackboneSettings
    """Backbone of the weights; with timm's tag if one was requested, since the images' size can depend on it."""
    input: InputSettings
    """How images are resized and cropped."""
    mean: tuple[float, ...]
    """Mean of each channel of images in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel of images in [0, 1]."""
    file: Path | None
    """Local file of the weights, which may not have been downloaded yet; None if its path is unknown."""
    given: bool
    """Whether the user named `file`."""
    url: str
    """Address that the weights are downloaded from."""
    open: Callable[[Path], Mapping[str, Tensor]]
    """Reads the weights in `file`."""
    fetch: Callable[[], Mapping[str, Tensor]]
    """Downloads the weights from `url` and reads them."""

    def read(self, *, download: bool) -> Mapping[str, Tensor]:
        """Return the weights, from the local file or, if it does not exist and `download` is set, from `url`.

        Raises UserError for weights that are missing, cannot be read or cannot be downloaded.
        """
        if self.file is not None and (self.given or self.file.is_file()):
            return self.open(self.file)
        advice = f"download {self.url} on another machine and set {WHERE}.weights to the file"
        if not download:
            place = f" ({self.file})" if self.file else ""
            raise UserError(
                f"{WHERE}.weights: {self.title} not found on this machine{place}; "
                f"set {WHERE}.download: true, or {advice}"
            )
        try:
            return self.fetch()
        except Exception as error:  # from the operating system, a checksum, or one of several HTTP clients
            raise UserError(
                f"{WHERE}.weights: {self.title} cannot be downloaded ({one_line(error)}); {advice}"
            ) from None


def published_network(backbone: BackboneSettings, weights: str, *, channels: int, download: bool) -> Network:
    """Return a network without a head, in eval mode, with published weights and the preprocessing that they expect.

    backbone: a backbone of torchvision or timm. weights: path of a file, or the library's name of the weights.
    channels: number of image channels, 1 or 3. download: whether missing weights may be downloaded.
    The state of torch's generator does not change. Raises UserError as `find_weights`, `PublishedWeights.read` and
    `Published.load` do.
    """
    found = find_weights(backbone, weights)
    with torch.random.fork_rng(devices=[]):
        network = Network(found.backbone, mean=found.mean, std=found.std, input=found.input, channels=channels)
        state = found.read(download=download)
    assert isinstance(network.backbone, Published)
    network.backbone.load(state, str(found.file or found.title))
    return network.eval()


def find_weights(backbone: BackboneSettings, weights: str) -> PublishedWeights:
    """Look up weights without downloading or reading them.

    weights: path of a file, or the library's name of the weights; DEFAULT means the library's default.
    Raises UserError for an unknown architecture or name.
    """
    if backbone.name not in LIBRARIES or backbone.architecture is None:
        raise UserError(
            f"network: name {backbone.name} and architecture {backbone.architecture or 'null'} found, expected name "
            "torchvision or timm and an architecture of theirs, whose weights are published"
        )
    path = Path(weights).expanduser()
    file = path if path.suffix in FILES or path.is_file() else None
    find = _torchvision_weights if backbone.name == "torchvision" else _timm_weights
    return find(backbone, backbone.architecture, weights, file)


def _torchvision_weights(
    backbone: BackboneSettings, architecture: str, weights: str, file: Path | None
) -> PublishedWeights:
    from torchvision.models import get_model_weights

    check_torchvision(architecture)
    entries = get_model_weights(architecture)
    if file is not None:
        # A file has no preprocessing settings: those of the weights with the same file name, else the default ones.
        entry = next((each for each in entries if _file_name(each.url) == file.name), entries.DEFAULT)
    elif weights in entries.__members__:
        entry = entries[weights]
    else:
        raise _unknown(weights, architecture, entries.__members__)
    images = entry.transforms()
    return PublishedWeights(
        title=f"torchvision's {architecture} {entry.name}",
        backbone=backbone,
        input=InputSettings(
            resize=images.resize_size[0], crop=images.crop_size[0], interpolation=images.interpolation.value
        ),
        mean=tuple(images.mean),
        std=tuple(images.std),
        file=file or _hub_file(entry.url),
        given=file is not None,
        url=entry.url,
        open=_read,
        fetch=partial(entry.get_state_dict, progress=False, check_hash=True, map_location="cpu", weights_only=True),
    )


def _timm_weights(backbone: BackboneSettings, architecture: str, weights: str, file: Path | None) -> PublishedWeights:
    timm, known = find_timm(architecture)
    tags = {name.partition(".")[2]: name for name in timm_names(timm, architecture)}
    if file is None and weights != "DEFAULT":
        if weights not in tags:
            raise _unknown(weights, architecture, ["DEFAULT", *tags])
        architecture = tags[weights]
        _, known = find_timm(architecture)
    elif file is None and known.tag not in tags:
        raise UserError(f"{WHERE}.weights: timm has none for {architecture}; give a file or use another architecture")
    images = timm.data.resolve_data_config(pretrained_cfg=known.to_dict())
    _, height, width = images["input_size"]
    if height != width or images["crop_pct"] > 1:
        raise UserError(
            f"network.architecture: '{architecture}' found, whose images are {height}×{width} px, "
            f"{images['crop_pct']:g} of the resized ones; expected squares and at most 1; use another one"
        )
    cached, url = _timm_place(known)
    return PublishedWeights(
        title=f"timm's {architecture.partition('.')[0]} {known.tag}",
        backbone=replace(backbone, architecture=architecture),
        # The size is rounded down, as in timm's own evaluation.
        input=InputSettings(
            resize=floor(height / images["crop_pct"]), crop=height, interpolation=images["interpolation"]
        ),
        mean=tuple(images["mean"]),
        std=tuple(images["std"]),
        file=file or cached,
        given=file is not None,
        url=url,
        open=_read if file or (cached and cached.suffix != ".safetensors") else partial(_read_by_timm, architecture),
        fetch=lambda: timm.create_model(architecture, pretrained=True, num_classes=0).state_dict(),
    )


def _timm_place(known: Any) -> tuple[Path | None, str]:
    """Return the local file of timm's weights, None if they have not been downloaded, and their address."""
    if not known.hf_hub_id:
        return None if known.custom_load else _hub_file(known.url), known.url
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    place = known.hf_hub_id, known.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(*place)
    return Path(cached) if isinstance(cached, str) else None, hf_hub_url(*place)


def _read_by_timm(architecture: str, path: Path) -> Mapping[str, Tensor]:
    """Return the weights in a file that timm downloaded; timm converts files of other formats to its own names."""
    timm, _ = find_timm(architecture)
    place = {"file": str(path)}
    try:
        model: Any = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=place, num_classes=0)
    except Exception as error:  # for example of a damaged file, or of weights of another shape
        raise UserError(f"{path}: not readable as weights of {architecture} ({one_line(error)})") from None
    state: Mapping[str, Tensor] = model.state_dict()
    return state


def _hub_file(url: str) -> Path:
    """Return the local file in which torch.hub stores a download."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _file_name(url)


def _file_name(url: str) -> str:
    return PurePosixPath(urlparse(url).path).name


def _read(path: Path) -> Mapping[str, Tensor]:
    """Return the weights in a file; raises UserError for a file that is missing, unreadable or without weights."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # weights_only: reads tensors and plain containers and, unlike pickle, runs no code from the file.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
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


def _unknown(weights: str, architecture: str, known: Iterable[str]) -> UserError:
    return UserError(
        f"{WHERE}.weights: '{weights}' found, expected a file or one of {architecture}'s{nearest(weights, known)}"
    )
