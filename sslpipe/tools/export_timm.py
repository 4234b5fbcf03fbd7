"""Export to timm: config.json and model.safetensors, which `timm.create_model("local-dir:FOLDER")` loads.

config.json is written here and not by timm's `save_config_for_hf`, which copies what timm knows of its own weights,
such as their licence and origin, to weights that are others.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sslpipe.io.errors import UserError
from sslpipe.io.files import write_bytes, write_json
from sslpipe.nets.network import Network
from sslpipe.nets.preprocessing import is_view, seen_of
from sslpipe.nets.timm_equivalent import OTHERWISE, linear_classifier, seen_side, timm_equivalent
from sslpipe.tools.export_module import About, Forward

CONFIG = "config.json"


@dataclass(frozen=True)
class TimmModel:
    """A model of timm with the weights of a network, and what config.json says of it."""

    model: Any
    """In eval mode."""
    config: dict[str, Any]
    """The content of config.json, without the licence."""


def timm_model(network: Network, *, size: int, names: Sequence[str]) -> TimmModel:
    """Return timm's model of a network for images of `size` px.

    names: of the outputs; empty for a model of features, whose num_classes is 0. Raises UserError if timm has no equal
    network.
    """
    import timm

    same = timm_equivalent(network, size)
    classifier = linear_classifier(network.head) if names else None
    arguments = {"in_chans": len(network.mean), **same.arguments}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        model: Any = timm.create_model(same.architecture, num_classes=len(names), **arguments)
    weights = {**same.weights}
    place = model.pretrained_cfg.get("classifier")
    if classifier is not None:
        layer = model.get_submodule(place) if isinstance(place, str) else None
        if not isinstance(layer, nn.Linear) or layer.in_features != network.backbone.dimension or layer.bias is None:
            raise UserError(
                f"--format: timm found, whose {same.architecture} has no classifier of one linear layer; {OTHERWISE}"
            )
        weights |= {f"{place}.weight": classifier.weight, f"{place}.bias": classifier.bias}
    model.load_state_dict(weights)
    return TimmModel(model.eval(), _config(network, model, size=size, names=names, arguments=arguments))


def _config(
    network: Network, model: Any, *, size: int, names: Sequence[str], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of config.json."""
    side = seen_side(network, size)
    resize, interpolation = size, "bicubic"
    if network.input is not None and not is_view(size, network.side):
        resize, interpolation = network.input.resize, network.input.interpolation
    own = model.pretrained_cfg
    fixed = bool(own.get("fixed_input_size"))
    pool = getattr(model, "global_pool", None)
    pool = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
    return {
        "architecture": own["architecture"],
        "num_classes": len(names),
        "num_features": model.num_features,
        **({"global_pool": pool} if isinstance(pool, str) and pool else {}),
        **({"label_names": list(names)} if names else {}),
        "model_args": arguments,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [len(network.mean), side, side],
            "fixed_input_size": fixed,
            "interpolation": interpolation,
            "crop_pct": crop_fraction(resize, side),
            "crop_mode": "center",
            "mean": _decimals(network.mean),
            "std": _decimals(network.std),
            "num_classes": len(names),
            "pool_size": None,
            "first_conv": own.get("first_conv"),
            "classifier": own.get("classifier"),
        },
    }


def _decimals(values: Tensor) -> list[float]:
    """Return the shortest decimals that are read as the same float32 values."""
    return [float(str(value)) for value in values.flatten().cpu().numpy()]


def crop_fraction(resize: int, crop: int) -> float:
    """Return timm's crop_pct, with which it resizes the shorter side to `resize` px for a crop of `crop` px.

    timm resizes to floor(crop / crop_pct), which rounding may make one too small for crop / resize.
    """
    fraction = crop / resize
    while math.floor(crop / fraction) < resize:
        fraction = math.nextafter(fraction, 0)
    return fraction


def write_timm(timm_model: TimmModel, path: Path, about: About) -> None:
    """Write the weights to `path`, model.safetensors, and config.json beside it."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in timm_model.model.state_dict().items()}
    write_bytes(path, safetensors.torch.save(weights, metadata={"format": "pt"}))
    config = {
        **timm_model.config,
        "pretrained_cfg": {**timm_model.config["pretrained_cfg"], "license": about["license"]},
    }
    write_json(path.with_name(CONFIG), config)


def run_timm(path: Path) -> Forward:
    """Return the function of the model that timm loads from a folder: images in [0, 1], as large as it sees them.

    They are normalised as config.json says.
    """
    import timm

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        model: Any = timm.create_model(f"local-dir:{path.parent}", pretrained=True).eval()
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))

    @torch.no_grad()
    def forward(images: Tensor) -> Tensor:
        output: Tensor = model((images - mean) / std)
        return output

    return forward


def comparison(network: Network, run: Forward, *, features: bool) -> tuple[Forward, Forward]:
    """Return the functions of uint8 images [B, C, H, W] to compare: the network's, and that of timm's model.

    Both return logits, or features that are not normalised; log-probabilities where the head's logits are such.
    """
    classifier = None if features else linear_classifier(network.head)
    shifted = classifier is not None and classifier.shifted

    @torch.no_grad()
    def expected(images: Tensor) -> Tensor:
        if features:
            return network.features(images.float() / 255)
        logits: Tensor = network(images.float() / 255)
        logits = logits[0] if logits.ndim == 3 else logits
        return logits.log_softmax(dim=1) if shifted else logits

    @torch.no_grad()
    def exported(images: Tensor) -> Tensor:
        output = run(seen_of(images.float() / 255, network.side, network.input))
        return output.log_softmax(dim=1) if shifted else output

    return expected, exported
