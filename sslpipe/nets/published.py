"""Published networks of timm, used without training: their weights, and the preprocessing that they expect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, Literal

import torch
from torch import Tensor

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, one_line
from sslpipe.io.files import project_path
from sslpipe.nets.architecture_names import names_of
from sslpipe.nets.architectures import shapes_of
from sslpipe.nets.joined import JoinedBackbone
from sslpipe.nets.model_file import check_weights
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.preprocessing import InputSettings
from sslpipe.nets.timm_backbone import TimmBackbone, timm_config
from sslpipe.nets.weights_files import (
    WeightsFile,
    completed,
    nearest_hint,
    read_weights,
    selected,
    with_timms_names,
)
from sslpipe.nets.weights_owner import check_owner, name_twins
from sslpipe.nets.weights_packages import WHERE, package_weights
from sslpipe.nets.weights_timm import timm_weights

Weights = WeightsFile | Literal["package"] | None
"""Where the weights of a network are: a file, an installed package of weights, or None: with timm."""


@dataclass(frozen=True)
class _Part:
    """One of the networks that are joined."""

    architecture: str
    weights: Weights
    config: Any
    """timm's configuration of the architecture's weights."""

    @property
    def is_known(self) -> bool:
        """Whether the configuration is that of the weights."""
        return not isinstance(self.weights, WeightsFile) or "." in self.architecture


def published_network(
    backbone: BackboneSettings,
    weights: Sequence[Weights],
    *,
    channels: int,
    download: bool,
    side: int | None = None,
) -> Network:
    """Return a network without a head, in eval mode, with published weights and the preprocessing that they expect.

    backbone: networks of timm; an architecture names the tag of its weights, unless they are in a file. weights: of
    each. channels: number of image channels, 1 or 3. download: whether weights that are not on this machine may be
    downloaded. side: to which whole images are resized, pixels; None: the weights' own resizing and crop.
    The state of torch's generator does not change. Raises UserError for a backbone that is not timm's, for weights that
    are missing or cannot be read or downloaded, for those of another architecture, and for a side that a network does
    not take.
    """
    if backbone.name != "timm" or backbone.architecture is None:
        raise UserError(
            f"network: name {backbone.name} and architecture {backbone.architecture or 'null'} found, expected name "
            "timm and one of its architectures, such as resnet50.tv_in1k, whose weights are published"
        )
    names = names_of(backbone.architecture)
    if len(weights) != len(names):
        raise UserError(
            f"{WHERE}.weights: {len(weights)} found, expected {len(names)}, one for each network of "
            f"network.architecture ({backbone.architecture})"
        )
    parts = [_Part(name, each, timm_config(name)) for name, each in zip(names, weights, strict=True)]
    with torch.random.fork_rng(devices=[]):
        input = _common_input(parts, side)
        _check_side(backbone, input)
        first = parts[0].config
        network = Network(backbone, mean=first.mean, std=first.std, input=input, channels=channels)
        for part, each in zip(parts, _networks(network), strict=True):
            _load(each, part, input, download=download)
        if isinstance(network.backbone, JoinedBackbone):
            network.backbone.normalise([part.config.mean for part in parts], [part.config.std for part in parts])
        network.eval()
        if side is not None:
            _try(network, backbone.architecture, side)
    return network


def _networks(network: Network) -> list[TimmBackbone]:
    """Return the networks of timm in a network."""
    backbone = network.backbone
    found = list(backbone.networks) if isinstance(backbone, JoinedBackbone) else [backbone]
    return [each for each in found if isinstance(each, TimmBackbone)]


def _check_side(backbone: BackboneSettings, input: InputSettings) -> None:
    """Raise UserError if the network is to see squares of another side than its weights expect."""
    if backbone.side not in (None, input.crop):
        raise UserError(
            f"network.side: {backbone.side} found, expected {input.crop}, to which images are cropped for "
            f"{backbone.architecture}, or null"
        )


def _common_input(parts: Sequence[_Part], side: int | None) -> InputSettings:
    """Return how images are prepared for all networks; raises UserError if they have no common way of their own."""
    inputs = [_input(part.config, is_known=part.is_known, side=side) for part in parts]
    for part, each in zip(parts, inputs, strict=True):
        first = inputs[0]
        if (each.resize, each.crop) != (first.resize, first.crop):
            raise UserError(
                f"{WHERE}.side: null found, but {parts[0].architecture} expects images of {first.crop} px (resized to "
                f"{first.resize}) and {part.architecture} of {each.crop} px (resized to {each.resize}); set a side for "
                "all of them, such as 128"
            )
        if each.interpolation != first.interpolation:
            info(
                f"{WHERE}: {part.architecture} expects images that are resized by {each.interpolation} interpolation; "
                f"they are resized as for {parts[0].architecture}, {first.interpolation}; the first network decides"
            )
    return inputs[0]


def _input(config: Any, *, is_known: bool, side: int | None) -> InputSettings:
    """Return how images are prepared for weights; is_known: whether `config` is that of the weights.

    Images for other weights are resized to 256 for crops of 224 px, bilinearly, as in the public code of MoCo v2, SwAV
    and SCAN; timm's own preprocessing differs from one of its weights to the other. With a side the whole image is
    resized to it.
    """
    interpolation: Any = config.interpolation if is_known else "bilinear"
    if side is not None:
        return InputSettings(resize=side, crop=side, interpolation=interpolation)
    _, height, width = config.input_size
    if height != width or config.crop_pct > 1:
        raise UserError(
            f"network.architecture: '{config.architecture}' found, whose images are {height}×{width} px, "
            f"{config.crop_pct:g} of the resized ones; expected squares and at most 1; use another one, or set "
            f"{WHERE}.side"
        )
    # The size is rounded down, as in timm's own evaluation.
    resize = floor(height / config.crop_pct) if is_known else height * 256 // 224
    return InputSettings(resize=resize, crop=height, interpolation=interpolation)


def _load(backbone: TimmBackbone, part: _Part, input: InputSettings, *, download: bool) -> None:
    """Load the weights of one network, whose names and shapes must be those of timm's; raises UserError otherwise."""
    name, weights, title = part.architecture, part.weights, f"timm's {part.architecture}"
    native = _native(backbone, part, input)
    if isinstance(weights, WeightsFile):
        path = project_path(weights.path)
        content = read_weights(path)
        is_owner = check_owner(path, content, name)
        found: Mapping[str, Tensor] = selected(content.weights, weights, path)
        given, found = found, with_timms_names(found, native, name, path)
        if (shapes := shapes_of(found)) != shapes_of(native.state_dict()):
            # Weights that were already resampled, or trained, for this side fit the network itself.
            native = backbone.model if shapes == shapes_of(backbone.model.state_dict()) else native
        try:
            check_weights(found, native.state_dict(), str(path), of=title, advice="use other weights")
        except UserError as error:
            if shapes == shapes_of(native.state_dict()) or not given:
                raise
            raise UserError(f"{error}{nearest_hint(given, name, path)}") from None
    else:
        is_owner = True
        found = package_weights(name) if weights else timm_weights(name, part.config, download=download)
        found = completed(found, native.state_dict())
        check_weights(found, native.state_dict(), title, of=title, advice="use other weights")
    found = backbone.resampled(found)
    if shapes_of(found) != shapes_of(backbone.model.state_dict()):
        raise UserError(
            f"{WHERE}.side: {input.crop} found, which {name} does not accept, since its weights cannot be resampled; "
            f"expected {part.config.input_size[-1]} or null"
        )
    backbone.model.load_state_dict(found)
    if not is_owner and isinstance(weights, WeightsFile):
        name_twins(project_path(weights.path), backbone, found, input.crop)


def _native(backbone: TimmBackbone, part: _Part, input: InputSettings) -> Any:
    """Return timm's model for the side that its weights expect: the backbone's, or one without memory for weights."""
    if not part.config.fixed_input_size or input.crop in part.config.input_size[1:]:
        return backbone.model
    with torch.device("meta"):
        return TimmBackbone(architecture=part.architecture, channels=len(part.config.mean)).model


@torch.no_grad()
def _try(network: Network, architecture: str, side: int) -> None:
    """Raise UserError if the networks do not accept images of this side."""
    try:
        network.features(torch.zeros(1, network.channels, side, side))
    except (RuntimeError, ValueError, UserError) as error:
        raise UserError(
            f"{WHERE}.side: {side} found, which {architecture} does not accept ({one_line(error)}); set another side"
        ) from None
