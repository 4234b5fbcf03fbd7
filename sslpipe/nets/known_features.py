"""Published features by the names that people use: which networks, weights and side, their licence and size.

Nothing is downloaded here, and no weights are read but those of a file that is named. torch and timm are imported on
use, since the networks of PACKAGES need neither.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import lcm
from pathlib import Path

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, nearest
from sslpipe.nets.architecture_names import multiples, names_of
from sslpipe.nets.weights_packages import EXTRA, PACKAGE, PACKAGES

CPU_SIDE = 128
"""Side for a CPU, pixels: 64 px cost 0.13 of purity@5, and 224 px take three times as long (CIFAR-10, Lite0)."""
GPU_SIDE = 224
"""Largest side for a GPU, pixels (own choice: that of most published weights and figures; DINOv2's own 518 px take six
times the time and the disk space)."""
DEFAULT = "efficientnet_lite0+efficientnet_lite2"
"""Features that need no hub: both networks of the extra offline-features."""
NAMES: Mapping[str, str] = {
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "efficientnet_lite2": "tf_efficientnet_lite2",
    "dinov2_s": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_b": "vit_base_patch14_dinov2.lvd142m",
    "dinov3_s": "vit_small_patch16_dinov3.lvd1689m",
    "dinov3_b": "vit_base_patch16_dinov3.lvd1689m",
}
"""Name → timm's architecture. DINOv2: arXiv:2304.07193, DINOv3: arXiv:2508.10104."""
LICENCES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "dinov3-license": "DINOv3 License (Meta's own, not open source; read it first)",
}
"""timm's name of a licence → what is shown; other names are shown as they are."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
"""Ends of the names of files of weights."""


@dataclass(frozen=True, kw_only=True)
class PublishedFeatures:
    """One published network."""

    architecture: str
    """For network.architecture."""
    weights: str | None
    """For pretrain.frozen.weights: a file, `package`, or null for timm's own."""
    patch: int
    """The side of images is a multiple of this, pixels."""
    own_side: int
    """The side that the weights were trained for, pixels."""
    licence: str
    """Licence of the weights; "unknown" for a file."""
    megabytes: int
    """Size of the weights; of a package: of its download."""
    is_here: bool
    """Whether the weights are on this machine: a file, an installed package or the hub's cache."""
    source: str
    """Where they are, or how they are fetched."""


@dataclass(frozen=True, kw_only=True)
class KnownFeatures:
    """Published features, of one network or several joined ones."""

    networks: tuple[PublishedFeatures, ...]

    @property
    def architecture(self) -> str:
        """The value of network.architecture."""
        return "+".join(network.architecture for network in self.networks)

    @property
    def weights(self) -> str | list[str | None] | None:
        """The value of pretrain.frozen.weights: a list for several networks."""
        given = [network.weights for network in self.networks]
        return given if len(given) > 1 else given[0]

    @property
    def side(self) -> int:
        """Default side of images on a CPU, pixels: CPU_SIDE, or the nearest that all networks accept."""
        return self._nearest(CPU_SIDE)

    @property
    def gpu_side(self) -> int:
        """Default side on a GPU: the smallest of the networks' own and GPU_SIDE, or the nearest that all accept."""
        return self._nearest(min(GPU_SIDE, *(network.own_side for network in self.networks)))

    def _nearest(self, wanted: int) -> int:
        """Return a side that all networks accept; without another one, the first network's own."""
        patch = reduce(lcm, (network.patch for network in self.networks))
        sides = sorted(multiples(wanted, patch), key=lambda side: (abs(side - wanted), side))
        accepted = (side for side in sides if all(accepts(network.architecture, side) for network in self.networks))
        return next(accepted, self.networks[0].own_side)

    @property
    def needs_download(self) -> bool:
        """Whether weights must be fetched from timm's hub."""
        return any(network.weights is None and not network.is_here for network in self.networks)

    @property
    def missing_packages(self) -> list[str]:
        """Architectures whose packages of weights are not installed."""
        return [each.architecture for each in self.networks if each.weights == PACKAGE and not each.is_here]


def known_features(name: str) -> KnownFeatures:
    """Return the published features of a name: one of NAMES, timm's name of an architecture, or a file of weights.

    Several are joined by +. A file is a path, whose architecture is found by its own metadata or by its tensors, or
    ARCHITECTURE=PATH. Raises UserError for a name that nobody knows, a file whose architecture cannot be told, and
    a network that is given twice.
    """
    whole = Path(name).expanduser().is_file()
    networks = tuple(_published(each) for each in ((name,) if whole else names_of(name)))
    for i, network in enumerate(networks):
        if network.architecture in [each.architecture for each in networks[:i]]:
            raise UserError(f"--features: '{name}' found, which has {network.architecture} twice; delete one")
    return KnownFeatures(networks=networks)


def _published(name: str) -> PublishedFeatures:
    """Return one network by its name or its file."""
    architecture, equals, path = name.partition("=")
    if equals and _is_model(architecture):  # before NAMES: both have efficientnet_lite0
        return _of_file(path, architecture)
    if equals and architecture in NAMES:
        return _of_file(path, NAMES[architecture])
    if name.endswith(SUFFIXES) or os.sep in name or Path(name).is_file():
        return _of_file(name, None)
    architecture = NAMES.get(name, name)
    base = architecture.partition(".")[0]
    if base in PACKAGES:
        package = PACKAGES[base]
        return PublishedFeatures(
            architecture=architecture,
            weights=PACKAGE,
            patch=1,
            own_side=package.side,
            licence=package.licence,
            megabytes=package.megabytes,
            is_here=package.path() is not None,
            source=f"the package {package.distribution}" + ("" if package.path() else f" ({EXTRA})"),
        )
    if not _is_model(architecture):
        import timm

        close = nearest(name, NAMES) if nearest(name, NAMES).startswith("; did") else nearest(name, timm.list_models())
        names = "" if "known:" in close else f"; known: {', '.join(NAMES)}, timm's architectures"
        raise UserError(f"--features: '{name}' found, which is unknown{close}{names}, or a file of weights")
    from sslpipe.nets.timm_backbone import timm_config
    from sslpipe.nets.weights_timm import cached_file, weights_url

    config = timm_config(architecture)
    if not config.has_weights:
        raise UserError(
            f"--features: '{name}' found, for which timm has no weights; write {name}=PATH with a file of weights"
        )
    tagged = architecture if "." in architecture else f"{architecture}.{config.tag}"
    cached = cached_file(config)
    return PublishedFeatures(
        architecture=tagged,
        weights=None,
        patch=_patch(architecture),
        own_side=config.input_size[-1],
        licence=LICENCES.get(config.license, config.license or "unknown"),
        megabytes=_megabytes(architecture),
        is_here=cached is not None,
        source=cached or f"a download from {weights_url(config)}",
    )


def _is_model(architecture: str) -> bool:
    """Return whether timm has an architecture, given with or without a tag."""
    import timm

    return bool(timm.is_model(architecture.partition(".")[0]))


def _of_file(name: str, architecture: str | None) -> PublishedFeatures:
    """Return the network of a file of weights; architecture: None means that the file tells."""
    from sslpipe.nets.timm_backbone import timm_config

    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"--features: {path}: no such file")
    found = architecture or _architecture_of(path)
    return PublishedFeatures(
        architecture=found,
        weights=name,
        patch=_patch(found),
        own_side=timm_config(found).input_size[-1],
        licence="unknown",
        megabytes=round(path.stat().st_size / 1e6),
        is_here=True,
        source=str(path),
    )


def _architecture_of(path: Path) -> str:
    """Return the architecture of a file's weights, and print a line if it was found by the shapes of its tensors."""
    from sslpipe.nets.architectures import nearest_architectures, shapes_of, twins
    from sslpipe.nets.weights_files import read_weights
    from sslpipe.nets.weights_owner import owner_of

    content = read_weights(path)
    if (owner := owner_of(path, content)) is not None:
        return owner[0]
    likely = nearest_architectures(shapes_of(content.weights), [path.name.partition(".")[0]])
    write = f"write --features ARCHITECTURE={path} with timm's name of the architecture"
    if not likely:
        raise UserError(f"--features: {path}: none of timm's architectures with a similar name fits; {write}")
    names = " or ".join(each.architecture for each in likely)
    if len(likely) > 1 or not likely[0].fits or twins(likely[0].architecture):
        raise UserError(f"--features: {path}: its architecture may be {names}, {likely[0]}; {write}")
    info(f"--features: {path}: taken for weights of {names}, {likely[0]}; if that is wrong, {write}")
    return likely[0].architecture


@lru_cache(maxsize=64)
def accepts(architecture: str, side: int) -> bool:
    """Return whether an architecture takes images of a side, pixels: by a forward without memory, if it takes few."""
    if architecture.partition(".")[0] in PACKAGES:
        return True
    import torch

    from sslpipe.nets.timm_backbone import TimmBackbone, timm_config

    if not timm_config(architecture).fixed_input_size:
        return True
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            TimmBackbone(architecture=architecture, channels=3, side=side).eval()(torch.zeros(1, 3, side, side))
    except Exception:  # each architecture has errors of its own, and some compute with their weights
        return False
    return True


def _patch(architecture: str) -> int:
    from sslpipe.nets.architectures import meta_model
    from sslpipe.nets.timm_backbone import patch_of

    model = meta_model(architecture)
    return 1 if model is None else patch_of(model)


def _megabytes(architecture: str) -> int:
    """Return the size of an architecture's weights in float32."""
    from sslpipe.nets.architectures import meta_model

    model = meta_model(architecture)
    return 0 if model is None else round(sum(each.numel() * each.element_size() for each in model.parameters()) / 1e6)
