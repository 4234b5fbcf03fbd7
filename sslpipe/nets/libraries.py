"""Architectures of torchvision and of timm without their classifiers, and what is done to their images first.

Both libraries are imported where they are used: they take seconds, and timm need not be there.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.errors import UserError, nearest
from sslpipe.io.settings import Count
from sslpipe.nets.layers import Backbone

Library = Literal["torchvision", "timm"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """What is done to images before they are normalised: resized, then cropped."""

    resize: Count
    """Shorter side after resizing, pixels."""
    crop: Count
    """Side of the central square that is kept, pixels."""
    interpolation: Literal["nearest", "bilinear", "bicubic"]

    def __post_init__(self) -> None:
        if self.crop > self.resize:
            raise UserError(f"crop: {self.crop} px found, expected at most resize, {self.resize} px")


def resize_and_crop(images: Tensor, settings: InputSettings) -> Tensor:
    """Float images [B, C, H, W] in [0, 1] to [B, C, crop, crop], as torchvision's ImageClassification does."""
    height, width = images.shape[-2:]
    size = [settings.resize * side // min(height, width) for side in (height, width)]
    if settings.interpolation == "nearest":
        images = F.interpolate(images, size)
    else:
        images = F.interpolate(images, size, mode=settings.interpolation, antialias=True)
    if settings.interpolation == "bicubic":
        images = images.clamp(0, 1)  # it overshoots; images of 8 bits, which the weights were trained on, cannot
    top, left = (round((side - settings.crop) / 2) for side in size)
    return images[..., top : top + settings.crop, left : left + settings.crop]


class Published(Backbone):
    """An architecture of torchvision or timm without its classifier; its start values are the library's."""

    def __init__(self, library: Library, *, architecture: str, side: int | None = None) -> None:
        """side: of the images, pixels; only torchvision's vits are built for one, 224 where it is None.

        Raises UserError for an architecture that the library does not have or whose classifier cannot be told.
        """
        super().__init__()
        build = _torchvision_model if library == "torchvision" else _timm_model
        self.architecture = architecture
        self.model, self.dimension, self.classifiers = build(architecture, side)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], grey or colour, to [B, dimension]."""
        try:
            features: Tensor = self.model(x.expand(-1, 3, -1, -1))  # grey: three equal channels
        except AssertionError as error:  # so vits refuse images of another side
            raise UserError(
                f"network.architecture: '{self.architecture}' found, which does not take images of {x.shape[-1]} px "
                f"({error}); take another"
            ) from None
        return features

    def load(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Take up weights of just this architecture; those of its classifier may be among them and are left out.

        A prefix that all names have ("module.", "backbone.") is taken off. torch's and torchvision's own leniency
        towards old files holds: they lack the batch norms' counts of batches, which nothing uses here.
        Raises UserError, naming `source`, where a weight is missing, unexpected, of another shape or not finite.
        """
        weights = _renamed(weights, {name for name, _ in self.model.named_children()})
        for name, tensor in self.model.state_dict().items():
            if name in weights and weights[name].shape != tensor.shape:
                found, expected = list(weights[name].shape), list(tensor.shape)
                raise UserError(f"{source}: {name}: {found} found, expected {expected}, as in {self.architecture}")
        try:
            missing, unexpected = self.model.load_state_dict(weights, strict=False)
        except (RuntimeError, ValueError) as error:  # what a library finds wrong when it translates old names
            raise UserError(f"{source}: not the weights of {self.architecture} ({one_line(error)})") from None
        unexpected = [name for name in unexpected if not name.startswith(tuple(f"{c}." for c in self.classifiers))]
        for names, what in ((missing, "missing"), (unexpected, "unexpected")):
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise UserError(
                    f"{source}: {len(weights)} weights found, expected those of {self.architecture}; "
                    f"{what}: {names[0]}{more}"
                )
        for name, tensor in self.model.state_dict().items():
            if not tensor.isfinite().all():
                raise UserError(f"{source}: {name}: values that are no finite number found; take other weights")


def check_torchvision(architecture: str) -> None:
    """Raise UserError unless it is a classification model of torchvision that ends in one linear layer."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)  # those for classification
    if architecture not in known:
        raise _unknown("torchvision", architecture, known)
    if architecture in ("googlenet", "inception_v3") or architecture.startswith("squeezenet"):
        # The first two have further classifiers half-way and change their input; squeezenets end in a convolution.
        raise UserError(
            f"network.architecture: '{architecture}' found, expected one that ends in one linear layer; take another"
        )


def find_timm(architecture: str) -> tuple[Any, Any]:
    """The library, and what it knows of the architecture's weights: of those of its tag, or the default ones.

    Raises UserError where timm is not installed or lacks the architecture.
    """
    try:
        import timm
    except ImportError:
        raise UserError("network.name: timm is not installed; pip install timm") from None
    if not timm.is_model(architecture):
        raise _unknown("timm", architecture, timm.list_models())
    try:
        return timm, timm.models.get_pretrained_cfg(architecture)
    except RuntimeError:  # the tag is unknown
        raise _unknown("timm", architecture, timm_names(timm, architecture)) from None


def timm_names(timm: Any, architecture: str) -> list[str]:
    """The architecture's name with each tag that there are weights of."""
    return list(timm.list_pretrained(f"{architecture.partition('.')[0]}.*"))


def one_line(error: Exception) -> str:
    """An error's message on one line, not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _torchvision_model(architecture: str, side: int | None) -> tuple[nn.Module, int, tuple[str, ...]]:
    """The model without its last linear layer, that layer's inputs and name."""
    from torchvision.models import get_model

    check_torchvision(architecture)
    options = {"image_size": side} if architecture.startswith("vit_") and side else {}
    model: nn.Module = get_model(architecture, weights=None, **options)
    *_, (name, layer) = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear))
    model.set_submodule(name, nn.Identity())
    return model, layer.in_features, (name,)


def _timm_model(architecture: str, side: int | None) -> tuple[nn.Module, int, tuple[str, ...]]:
    """The model, its features' dimension, the names of the classifiers it lacks; its images' side is in its name."""
    timm, known = find_timm(architecture)
    model: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
    # num_features is of the last map; in mobilenets and vggs a layer follows before the classifier.
    dimension = getattr(model, "head_hidden_size", None) or model.num_features
    classifiers = known.classifier or ()
    return model, dimension, (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)


def _renamed(weights: Mapping[str, Tensor], children: Collection[str]) -> Mapping[str, Tensor]:
    """The weights without a prefix that all names have; `children`: first parts of names that are no such prefix."""
    while weights and all("." in name for name in weights):
        first = {name.partition(".")[0] for name in weights}
        if len(first) > 1 or first <= set(children):
            break
        weights = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
    # densenet's files are from when torch allowed "." in a module's name; torchvision renames them likewise.
    if any(_DOTTED.search(name) for name in weights):
        weights = {_DOTTED.sub(r"\1\2", name): tensor for name, tensor in weights.items()}
    return weights


def _unknown(library: Library, name: str, known: Iterable[str]) -> UserError:
    return UserError(f"network.architecture: '{name}' found, which {library} does not have{nearest(name, known)}")
