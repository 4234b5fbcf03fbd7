"""What an export's card says of its file: input, output, names and an example."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sslpipe.decoding.deep_image import shown_number
from sslpipe.io.errors import UserError
from sslpipe.io.version import own_version
from sslpipe.nets.heads import ClusterHeads
from sslpipe.nets.model_card import ModelCard
from sslpipe.nets.model_paths import CARD
from sslpipe.nets.network import Network
from sslpipe.nets.preprocessing import is_view
from sslpipe.nets.timm_equivalent import seen_side
from sslpipe.reporting.summary import without_machine
from sslpipe.tools.export_formats import Format
from sslpipe.tools.export_module import INPUT, Forward

NOTHING = "nothing"
"""What happens inside of a file that takes images as the network sees them."""


def output_names(model: Path, network: Network, card: ModelCard, forward: Forward) -> list[str]:
    """Return the class or cluster of each output of `forward`; raises UserError if the card does not match them."""
    if isinstance(network.head, ClusterHeads) and network.head.settings.heads != 1:
        raise UserError(f"{model / CARD}: network.head.heads: {network.head.settings.heads} found, expected 1")
    outputs = forward(torch.zeros(1, card.channels, card.size, card.size, dtype=torch.uint8)).shape[1]
    if card.predicts_clusters:
        return [f"cluster {cluster}" for cluster in range(outputs)]
    if outputs != len(card.classes):
        raise UserError(f"{model / CARD}: outputs: {outputs} found, expected {len(card.classes)}, one per class")
    return list(card.classes)


def about(kind: Format, network: Network, card: ModelCard, names: Sequence[str], licence: str) -> dict[str, Any]:
    """Return the card's content that is known before the export.

    names: of the outputs, empty for features. licence: of the weights, as Hugging Face's hub names it.
    """
    describe = _traced if kind.is_traced else _of_timm
    return {
        "file": kind.file,
        **describe(kind, network, card, names),
        "names": list(names),
        "stage": card.stage,
        "settings": without_machine(dict(card.settings)),
        "license": licence,
        "sslpipe": own_version(),
        "torch": str(torch.__version__),
        "example": _example(kind, network, card, names),
    }


def _traced(kind: Format, network: Network, card: ModelCard, names: Sequence[str]) -> dict[str, Any]:
    """Describe input and output of a file from uint8 images to probabilities or unit features."""
    size, channels = card.size, card.channels
    output, width = ("probabilities", len(names)) if names else ("features", network.backbone.dimension)
    return {
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", channels, size, size],
            "meaning": f"{_colour(channels)} images, 0 to 255; the first row of a channel is the top",
            "prepare": _prepare(card),
            "inside": ", ".join(_inside(network, size)),
        },
        "output": {
            "name": output,
            "dtype": "float32",
            "shape": ["batch", width],
            "meaning": f"probabilities of the {_kinds(card)} in names, in their order; they sum to 1"
            if names
            else "L2-normalised features of the backbone: the cosine similarity of two images is their dot product",
        },
    }


def _of_timm(kind: Format, network: Network, card: ModelCard, names: Sequence[str]) -> dict[str, Any]:
    """Describe input and output of timm's model, from normalised images to logits or features."""
    side, channels = seen_side(network, card.size), len(network.mean)
    own = card.channels == channels
    return {
        "input": {
            "name": "x",
            "dtype": "float32",
            "shape": ["batch", channels, side, side],
            "meaning": f"{_colour(card.channels)} images{'' if own else ', the same in all three channels'}, "
            "normalised by mean and std of config.json; the first row of a channel is the top",
            "prepare": f"{_prepare(card)}; {', '.join(_inside(network, card.size))}",
            "inside": NOTHING,
            "transform": _transform(network, card.size),
        },
        "output": {
            "name": "logits" if names else "features",
            "dtype": "float32",
            "shape": ["batch", len(names) or network.backbone.dimension],
            "meaning": f"logits of the {_kinds(card)} in names, in their order; softmax gives the probabilities"
            if names
            else "features of the backbone, not normalised",
        },
    }


def _transform(network: Network, size: int) -> str:
    """Say how timm's transform differs from the steps of `_prepare` and `_inside`."""
    if network.input is None or is_view(size, network.side):
        return (
            "timm's transform for this config.json does the same to a square 8-bit image without transparency and "
            "profile; of one that is not square it may see a region that is shifted by part of a pixel"
        )
    way = f"{network.input.resize} px ({network.input.interpolation})"
    return (
        f"timm's transform for this config.json resizes an image once, to {way}, where the model was trained on images "
        f"that were first stored at {size} px (bicubic) and then resized to {way}: outputs differ somewhat; for the "
        f"same ones, prepare an image of {size} px first"
    )


def _example(kind: Format, network: Network, card: ModelCard, names: Sequence[str]) -> list[str]:
    """Return lines of Python that load the file and run it on an image."""
    library, load, run = kind.example
    output = "probabilities" if names else "features"
    colour = "RGB" if card.channels == 3 else "L"
    opened = f'ImageOps.exif_transpose(Image.open("image.png")).convert("{colour}")'
    if not kind.is_traced:
        three = '.convert("RGB")' if len(network.mean) != card.channels else ""
        return [
            f"import {library}; from PIL import Image, ImageOps",
            f"image = {opened}{three}",
            f"model = {load}",
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
            f"{output} = " + run + (".softmax(dim=1)" if names else ""),
        ]
    size = card.size
    batch = f"np.array(image).reshape(1, {size}, {size}, {card.channels}).transpose(0, 3, 1, 2)"
    return [
        f"import numpy as np, {library}; from PIL import Image, ImageOps",
        f"image = ImageOps.fit({opened}, ({size}, {size}), Image.Resampling.BICUBIC)",
        f"model = {load}",
        f"{output} = " + run.replace("BATCH", batch),
    ]


def _kinds(card: ModelCard) -> str:
    return "clusters" if card.predicts_clusters else "classes"


def _colour(channels: int) -> str:
    return "RGB" if channels == 3 else "grey (luma of ITU-R 601-2)"


def _prepare(card: ModelCard) -> str:
    """Describe how images are decoded, and brought to the model's size."""
    size = card.size
    return (
        f"apply the EXIF orientation; {_depth(card)}; blend transparent pixels with white, or with black if the image "
        f"would vanish on white; convert an ICC profile to sRGB; resize the shorter side to {size} px (bicubic, "
        f"antialiased); crop the central {size} × {size} px"
    )


def _inside(network: Network, size: int) -> list[str]:
    """Describe what happens to uint8 images of `size` px before the backbone."""
    steps = ["divided by 255", "normalised"]
    if network.input is not None and not is_view(size, network.side):
        side, crop, how = network.input.resize, network.input.crop, network.input.interpolation
        cropped = "" if crop == side else f", cropped to the central {crop} × {crop} px"
        steps.insert(1, f"resized to {side} × {side} px ({how}){cropped}")
    elif network.side is not None and network.side < size:
        steps.insert(1, f"cropped to the central {network.side} × {network.side} px")
    return steps


def _depth(card: ModelCard) -> str:
    """Describe how images of more than 8 bits are scaled."""
    if card.value_range is None:
        return "scale images of more than 8 bits from 0 to 65535 (floats: 0 to 1) to 0 to 255"
    low, high = map(shown_number, card.value_range)
    return f"scale images of more than 8 bits from {low} to {high} to 0 to 255"
