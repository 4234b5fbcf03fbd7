"""Export of a trained model to one file that runs without sslpipe, with a check of its outputs and a card."""

import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.decoding.deep_image import shown_number
from sslpipe.io.errors import UserError, nearest, one_line
from sslpipe.io.files import atomic_folder, sha256, write_json
from sslpipe.io.stages import CLUSTER_STAGES
from sslpipe.io.version import own_version
from sslpipe.nets.decoupled import DecoupledHead
from sslpipe.nets.heads import ClusterHeads, ProjectionHead
from sslpipe.nets.model_card import CARD, ModelCard
from sslpipe.nets.model_file import load_model, weights_path
from sslpipe.nets.network import Network
from sslpipe.nets.preprocessing import is_view
from sslpipe.tools.export_module import FORMATS, INPUT, Format, Forward, reference, trace

EXPORTED = Path("exported")
"""Default folder of exports; it is not in runs/, because DVC replaces the folders there."""
TOLERANCE = 1e-4
"""Largest accepted difference between the outputs of the file and of the model, which are in [-1, 1]."""
BATCHES = (4, 1)
"""Batch sizes of the comparison, different from the batch size of the trace."""


@dataclass(frozen=True)
class Exported:
    """An exported file whose outputs have been checked."""

    path: Path
    size: int
    """Size in bytes, including weights in a separate file."""
    difference: float
    """Largest difference from the model's outputs."""


def export_model(model: Path, form: str = "onnx", out: Path | None = None) -> Exported:
    """Export the model of a folder to a file in the format `form`, with its card, in the folder `out`.

    out: by default a folder in EXPORTED, named after the stage. An earlier export in the same format is replaced; one
    in another format is kept. Raises UserError as `load_model` does, and for an unknown format, a missing library, a
    folder that contains other files, a model that cannot be exported, and outputs that differ from the model's; nothing
    is written in these cases.
    """
    if form not in FORMATS:
        raise UserError(f"--format: '{form}' found, which is unknown{nearest(form, FORMATS)}")
    kind = FORMATS[form]
    _need(kind)
    network, card = load_model(model)
    network.eval()
    out = out or default_folder(model, card)
    _check_out(out)
    features = card.stage == "pretrain" or isinstance(network.head, ProjectionHead | DecoupledHead | nn.Identity)
    expected = reference(network, features=features)
    about = _about(kind, network, card, [] if features else output_names(model, network, card, expected))
    with atomic_folder(out) as folder:
        path = folder / kind.file
        try:
            with warnings.catch_warnings(action="ignore"):  # warnings for the libraries' developers
                program = trace(network, channels=card.channels, size=card.size, features=features)
                kind.write(program, path, about)
                difference = largest_difference(expected, kind.run(path), card)
        except (OSError, UserError):
            raise
        except Exception as error:  # the libraries raise different errors for what they cannot export
            reason = one_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
            raise UserError(f"{model}: cannot be exported as {form} ({reason})") from error
        if not difference <= TOLERANCE:  # also true for NaN
            raise UserError(
                f"{out / kind.file}: outputs that differ by {difference:.1e} from those of {model} found, expected at "
                f"most {TOLERANCE:.1e}; nothing is written"
            )
        files = sorted(folder.iterdir())
        fingerprints = {"data": card.data, "weights": sha256(weights_path(model))}
        fingerprints |= {file.name: sha256(file) for file in files}
        compared = {"max_difference": difference, "tolerance": TOLERANCE, "batches": list(BATCHES)}
        write_json(folder / f"{kind.file}.json", {**about, "compared": compared, "fingerprints": fingerprints})
        size = sum(file.stat().st_size for file in files)
        for other in out.glob("model.*"):
            if other.name not in kind.files:
                shutil.copy2(other, folder)
    return Exported(out / kind.file, size, difference)


def default_folder(model: Path, card: ModelCard) -> Path:
    """Return exported/<stage>, or exported/<stage>-<name> for a folder with another name, such as a method's."""
    return EXPORTED / "-".join(dict.fromkeys([card.stage, model.resolve().name]))


def output_names(model: Path, network: Network, card: ModelCard, forward: Forward) -> list[str]:
    """Return the class or cluster of each output of `forward`; raises UserError if the card does not match them."""
    if isinstance(network.head, ClusterHeads) and network.head.settings.heads != 1:
        raise UserError(f"{model / CARD}: network.head.heads: {network.head.settings.heads} found, expected 1")
    outputs = forward(torch.zeros(1, card.channels, card.size, card.size, dtype=torch.uint8)).shape[1]
    if card.stage in CLUSTER_STAGES:
        return [f"cluster {cluster}" for cluster in range(outputs)]
    if outputs != len(card.classes):
        raise UserError(f"{model / CARD}: outputs: {outputs} found, expected {len(card.classes)}, one per class")
    return list(card.classes)


def largest_difference(expected: Forward, exported: Forward, card: ModelCard) -> float:
    """Return the largest difference of the outputs for `check_images`; infinite if shapes or types differ."""
    differences = []
    for count in BATCHES:
        images = check_images(count, card.channels, card.size)
        wanted, given = expected(images), exported(images)
        if wanted.shape != given.shape or wanted.dtype != given.dtype:
            return math.inf
        differences.append((wanted - given).abs().max())
    return float(torch.stack(differences).max())  # torch's max returns NaN if there is one, unlike Python's


def check_images(count: int, channels: int, size: int) -> Tensor:
    """Return uint8 images [count, channels, size, size], alternately of fine and of coarse noise, with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    fine, coarse = (
        torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
        for side in (size, 4)
    )
    images = F.interpolate(coarse.float(), [size, size]).byte()
    images[::2] = fine[::2]
    return images


def _about(kind: Format, network: Network, card: ModelCard, names: Sequence[str]) -> dict[str, Any]:
    """Return the card's content that is known before the export; names: of the outputs, empty for features."""
    size, channels = card.size, card.channels
    colour = "RGB" if channels == 3 else "grey (luma of ITU-R 601-2)"
    inside = ["divided by 255", "normalised"]
    if network.input is not None and not is_view(size, network.side):
        side, crop, how = network.input.resize, network.input.crop, network.input.interpolation
        cropped = "" if crop == side else f", cropped to the central {crop} × {crop} px"
        inside.insert(1, f"resized to {side} × {side} px ({how}){cropped}")
    elif network.side is not None and network.side < size:
        inside.insert(1, f"cropped to the central {network.side} × {network.side} px")
    kinds = "clusters" if card.stage in CLUSTER_STAGES else "classes"
    output, width = ("probabilities", len(names)) if names else ("features", network.backbone.dimension)
    library, load, run = kind.example
    batch = f"np.array(image).reshape(1, {size}, {size}, {channels}).transpose(0, 3, 1, 2)"
    opened = f'ImageOps.exif_transpose(Image.open("image.png")).convert("{"RGB" if channels == 3 else "L"}")'
    return {
        "file": kind.file,
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", channels, size, size],
            "meaning": f"{colour} images, 0 to 255; the first row of a channel is the top",
            "prepare": f"apply the EXIF orientation; {_depth(card)}; blend transparent pixels with white, or with "
            "black if the image would vanish on white; convert an ICC profile to sRGB; resize the shorter side to "
            f"{size} px (bicubic, antialiased); crop the central {size} × {size} px",
            "inside": ", ".join(inside),
        },
        "output": {
            "name": output,
            "dtype": "float32",
            "shape": ["batch", width],
            "meaning": f"probabilities of the {kinds} in names, in their order; they sum to 1"
            if names
            else "L2-normalised features of the backbone: the cosine similarity of two images is their dot product",
        },
        "names": list(names),
        "stage": card.stage,
        "settings": dict(card.settings),
        "sslpipe": own_version(),
        "torch": str(torch.__version__),
        "example": [
            f"import numpy as np, {library}; from PIL import Image, ImageOps",
            f"image = ImageOps.fit({opened}, ({size}, {size}), Image.Resampling.BICUBIC)",
            f"model = {load}",
            f"{output} = " + run.replace("BATCH", batch),
        ],
    }


def _depth(card: ModelCard) -> str:
    """Describe how images of more than 8 bits are scaled."""
    if card.value_range is None:
        return "scale images of more than 8 bits from 0 to 65535 (floats: 0 to 1) to 0 to 255"
    low, high = map(shown_number, card.value_range)
    return f"scale images of more than 8 bits from {low} to {high} to 0 to 255"


def _need(kind: Format) -> None:
    """Raise UserError unless the libraries of a format are installed."""
    for name in kind.libraries:
        try:
            with warnings.catch_warnings(action="ignore"):
                import_module(name)
        except ImportError:
            raise UserError(f"--format: {name} is not installed; pip install 'sslpipe[export]'") from None


def _check_out(out: Path) -> None:
    """Raise UserError for a folder that must not be replaced."""
    if out.name in ("", ".."):
        raise UserError(f"--out: '{out}' found, expected the name of a folder")
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out: {out} is a file, expected a folder")
    known = {name for kind in FORMATS.values() for name in kind.files}
    others = sorted(path.name for path in out.iterdir() if path.name not in known)
    if others:
        raise UserError(f"--out: {out} contains {others[0]}, expected a new folder or one of earlier exports")
