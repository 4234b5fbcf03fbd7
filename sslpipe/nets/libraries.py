"""Backbones from torchvision and timm, without their classifiers, and the resizing of their input images.

Both libraries are imported where they are used, because the import takes seconds and timm is optional.
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
    """How images are resized and cropped before they are normalised."""

    resize: Count
    """Length of the shorter side after resizing, pixels."""
    crop: Count
    """Side of the central square that is cropped, pixels."""
    interpolation: Literal["nearest", "bilinear", "bicubic"]
    """Interpolation of the resizing; bilinear and bicubic are antialiased."""

    def __post_init__(self) -> None:
        if self.crop > self.resize:
            raise UserError(f"crop: {self.crop} px found, expected at most resize, {self.resize} px")


def resize_and_crop(images: Tensor, settings: InputSettings) -> Tensor:
    """Map float images [B, C, H, W] in [0, 1] to [B, C, crop, crop], as torchvision's ImageClassification does."""
    height, width = images.shape[-2:]
    size = [settings.resize * side // min(height, width) for side in (height, width)]
    if settings.interpolation == "nearest":
        images = F.interpolate(images, size)
    else:
        images = F.interpolate(images, size, mode=settings.interpolation, antialias=True)
    if settings.interpolation == "bicubic":
        images = images.clamp(0, 1)  # bicubic interpolation overshoots; the 8-bit images of the training could not
    top, left = (round((side - settings.crop) / 2) for side in size)
    return images[..., top : top + settings.crop, left : left + settings.crop]


class Published(Backbone):
    """A backbone from torchvision or timm without its classifier, initialised by the library."""

    def __init__(self, library: Library, *, architecture: str, side: int | None = None) -> None:
        """Build the backbone.

        side: side of the images, pixels. Only torchvision's vits depend on it; None means 224.
        Raises UserError for an architecture that the library does not have or that does not end in one linear layer.
        """
        super().__init__()
        build = _torchvision_model if library == "torchvision" else _timm_model
        self.architecture = architecture
        self.model, self.dimension, self.classifiers = build(architecture, side)

    def forward(self, x: Tensor) -> Tensor:
        """Map grey or colour images [B, C, H, W] to features [B, dimension]; raises UserError for a wrong size."""
        try:
            features: Tensor = self.model(x.expand(-1, 3, -1, -1))  # a grey image becomes three equal channels
        except AssertionError as error:  # vits raise it for images of another size
            raise UserError(
                f"network.architecture: '{self.architecture}' found, which does not accept images of {x.shape[-1]} px "
                f"({error}); use another one"
            ) from None
        return features

    def load(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Load weights of exactly this architecture; those of its classifier are ignored.

        A prefix that all names share ("module.", "backbone.") is removed. Old files lack the batch norms' counters of
        batches; torch and torchvision accept this, and the counters are not used here.
        Raises UserError, naming `source`, for a weight that is missing, unexpected, of another shape or not finite.
        """
        weights = _renamed(weights, {name for name, _ in self.model.named_children()})
        for name, tensor in self.model.state_dict().items():
            if name in weights and weights[name].shape != tensor.shape:
                found, expected = list(weights[name].shape), list(tensor.shape)
                raise UserError(f"{source}: {name}: {found} found, expected {expected}, as in {self.architecture}")
        try:
            missing, unexpected = self.model.load_state_dict(weights, strict=False)
        except (RuntimeError, ValueError) as error:  # a library could not translate old names
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
                raise UserError(f"{source}: {name}: values that are not finite found; use other weights")


def check_torchvision(architecture: str) -> None:
    """Raise UserError unless `architecture` is a classification model of torchvision that ends in one linear layer."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)  # classification models
    if architecture not in known:
        raise _unknown("torchvision", architecture, known)
    if architecture in ("googlenet", "inception_v3") or architecture.startswith("squeezenet"):
        # The first two have auxiliary classifiers and change their input; squeezenets end in a convolution.
        raise UserError(
            f"network.architecture: '{architecture}' found, expected one that ends in one linear layer; use another one"
        )


def find_timm(architecture: str) -> tuple[Any, Any]:
    """Return timm and its configuration of the architecture's weights, those of its tag or the default ones.

    Raises UserError where timm is not installed or does not have the architecture.
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
    """Return the architecture's name with each tag that timm has weights for."""
    return list(timm.list_pretrained(f"{architecture.partition('.')[0]}.*"))


def one_line(error: Exception) -> str:
    """Return an error's message on one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _torchvision_model(architecture: str, side: int | None) -> tuple[nn.Module, int, tuple[str, ...]]:
    """Return a model without its last linear layer, the number of inputs of that layer, and its name."""
    from torchvision.models import get_model

    check_torchvision(architecture)
    options = {"image_size": side} if architecture.startswith("vit_") and side else {}
    model: nn.Module = get_model(architecture, weights=None, **options)
    *_, (name, layer) = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear))
    model.set_submodule(name, nn.Identity())
    return model, layer.in_features, (name,)


def _timm_model(architecture: str, side: int | None) -> tuple[nn.Module, int, tuple[str, ...]]:
    """Return a model without its classifiers, the dimension of its features, and the names of the classifiers.

    `side` is not used: timm's name of an architecture determines the size of its images.
    """
    timm, known = find_timm(architecture)
    model: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
    # num_features is that of the last feature map; in mobilenets and vggs a layer follows before the classifier.
    dimension = getattr(model, "head_hidden_size", None) or model.num_features
    classifiers = known.classifier or ()
    return model, dimension, (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)


def _renamed(weights: Mapping[str, Tensor], children: Collection[str]) -> Mapping[str, Tensor]:
    """Return the weights without a prefix that all names share.

    children: names of the model's top-level modules, which are not removed.
    """
    while weights and all("." in name for name in weights):
        first = {name.partition(".")[0] for name in weights}
        if len(first) > 1 or first <= set(children):
            break
        weights = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
    # Files of densenets are from a time when torch allowed "." in a module's name; torchvision renames them as well.
    if any(_DOTTED.search(name) for name in weights):
        weights = {_DOTTED.sub(r"\1\2", name): tensor for name, tensor in weights.items()}
    return weights


def _unknown(library: Library, name: str, known: Iterable[str]) -> UserError:
    return UserError(f"network.architecture: '{name}' found, which {library} does not have{nearest(name, known)}")
