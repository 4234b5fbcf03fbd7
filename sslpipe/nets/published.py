"""Weights that torchvision and timm publish, or that lie in a file, in a network that prepares images as they expect.

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
WHERE = "pretrain.frozen"
"""The params key under which weights are asked for."""


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Where weights are, and the images they expect."""

    title: str
    """For people: whose they are."""
    backbone: BackboneSettings
    """What they fit; with timm's tag where one was asked for, since it may decide on the images' side."""
    input: InputSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]
    file: Path | None
    """Where they lie, or will once they are fetched; None where that is not known."""
    given: bool
    """Whether `file` is the user's own."""
    url: str
    open: Callable[[Path], Mapping[str, Tensor]]
    """Reads `file`."""
    fetch: Callable[[], Mapping[str, Tensor]]
    """Reads what lies at `url`."""

    def read(self, *, download: bool) -> Mapping[str, Tensor]:
        """Them all, from this machine or, with `download`, from where they are published.

        Raises UserError for weights that are not there, cannot be read or cannot be fetched.
        """
        if self.file is not None and (self.given or self.file.is_file()):
            return self.open(self.file)
        advice = f"fetch {self.url} elsewhere and set {WHERE}.weights to the file"
        if not download:
            place = f" ({self.file})" if self.file else ""
            raise UserError(
                f"{WHERE}.weights: {self.title} not found on this machine{place}; "
                f"set {WHERE}.download: true, or {advice}"
            )
        try:
            return self.fetch()
        except Exception as error:  # of the operating system, of a checksum, of any of several clients of HTTP
            raise UserError(
                f"{WHERE}.weights: {self.title} cannot be downloaded ({one_line(error)}); {advice}"
            ) from None


def published_network(backbone: BackboneSettings, weights: str, *, channels: int, download: bool) -> Network:
    """A network without a head, in eval mode, with weights from elsewhere and the preprocessing that they expect.

    backbone: of torchvision or timm. weights: the path of a file, or the library's name for them. channels: of the
    images, 1 or 3. download: whether weights that are not on this machine may be fetched.
    torch's generator is left as it was. Raises UserError as `find_weights`, `PublishedWeights.read` and
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
    """Look up weights: the path of a file, or the library's name for them, DEFAULT for those it prefers.

    Raises UserError for an unknown architecture or name. Nothing is fetched, and a file is not yet opened.
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
        # A file does not say which images it expects: those of the weights of that file name, else the default ones.
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
        raise UserError(f"{WHERE}.weights: timm has none of {architecture}; give a file or take another architecture")
    images = timm.data.resolve_data_config(pretrained_cfg=known.to_dict())
    _, height, width = images["input_size"]
    if height != width or images["crop_pct"] > 1:
        raise UserError(
            f"network.architecture: '{architecture}' found, whose images are {height}×{width} px, "
            f"{images['crop_pct']:g} of the resized ones; expected squares and at most 1; take another"
        )
    cached, url = _timm_place(known)
    return PublishedWeights(
        title=f"timm's {architecture.partition('.')[0]} {known.tag}",
        backbone=replace(backbone, architecture=architecture),
        # The side to resize to is rounded down, as in timm's own evaluation.
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
    """Where timm's weights lie on this machine, if they do, and their address."""
    if not known.hf_hub_id:
        return None if known.custom_load else _hub_file(known.url), known.url
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    place = known.hf_hub_id, known.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(*place)
    return Path(cached) if isinstance(cached, str) else None, hf_hub_url(*place)


def _read_by_timm(architecture: str, path: Path) -> Mapping[str, Tensor]:
    """The weights in a file that timm fetched; it translates those that are published in another form than its own."""
    timm, _ = find_timm(architecture)
    place = {"file": str(path)}
    try:
        model: Any = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=place, num_classes=0)
    except Exception as error:  # as of a damaged file, or of weights of another shape
        raise UserError(f"{path}: not readable as weights of {architecture} ({one_line(error)})") from None
    state: Mapping[str, Tensor] = model.state_dict()
    return state


def _hub_file(url: str) -> Path:
    """Where torch keeps what it fetched from an address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _file_name(url)


def _file_name(url: str) -> str:
    return PurePosixPath(urlparse(url).path).name


def _read(path: Path) -> Mapping[str, Tensor]:
    """The weights in a file; UserError where there are none."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # weights_only: a reader of tensors and plain containers that, unlike pickle, runs no code of the file.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not readable as weights ({one_line(error)})") from None
    except Exception:  # a damaged file makes torch's reader raise nearly anything, with advice for programmers
        raise UserError(
            f"{path}: not readable as weights; expected tensors by name and nothing that needs code to be run"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(each, Tensor) for each in content.values()):
        raise UserError(f"{path}: no weights by name found, expected them at the top, in state_dict or in model")
    return content


def _unknown(weights: str, architecture: str, known: Iterable[str]) -> UserError:
    return UserError(
        f"{WHERE}.weights: '{weights}' found, expected a file or one of {architecture}'s{nearest(weights, known)}"
    )
