"""Export of a trained model to a file that runs without sslpipe, with a check of its outputs and a card."""

import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslpipe.io.console import info
from sslpipe.io.errors import UserError, nearest, one_line
from sslpipe.io.files import atomic_folder, read_json, sha256, write_bytes, write_json
from sslpipe.nets.decoupled import DecoupledHead
from sslpipe.nets.heads import ProjectionHead
from sslpipe.nets.levels import merge_to_level
from sslpipe.nets.model_card import ModelCard
from sslpipe.nets.model_file import load_model
from sslpipe.nets.model_paths import weights_path
from sslpipe.tools.export_about import about, output_names
from sslpipe.tools.export_formats import FORMATS, Format
from sslpipe.tools.export_licence import licence_of
from sslpipe.tools.export_module import Forward, reference, trace
from sslpipe.tools.export_readme import README, Export, readme
from sslpipe.tools.export_timm import comparison, timm_model
from sslpipe.tools.lineage import Artifact
from sslpipe.tools.lineage import trace as lineage
from sslpipe.tools.report_lineage import strip_paths

EXPORTED = Path("exported")
"""Default folder of exports; it is not in runs/, because DVC replaces the folders there."""
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

    @property
    def card(self) -> Path:
        """Path of the model card."""
        return self.path.with_name(README)


def export_model(model: Path, form: str = "onnx", out: Path | None = None, *, groups: int | None = None) -> Exported:
    """Export the model of a folder to a file in the format `form`, with its cards, in the folder `out`.

    out: by default a folder in EXPORTED, named after the stage. groups: to which the model's clusters are merged. An
    earlier export in the same format is replaced; one
    in another format is kept. README.md is the model card, for all formats. Raises UserError as `load_model` does, and
    for an unknown format, a missing library, a folder that contains other files, a card that was edited, a model that
    cannot be exported, and outputs that differ from the model's; nothing is written in these cases.
    """
    if form not in FORMATS:
        raise UserError(f"--format: '{form}' found, which is unknown{nearest(form, FORMATS)}")
    kind = FORMATS[form]
    _need(kind)
    network, card = load_model(model)
    merged = merge_to_level(network, card, model, groups, "--groups")
    network.eval()
    out = out or default_folder(model, card, groups)
    _check_out(out)
    artifact = _artifact(model, card)
    licence = licence_of(artifact)
    strip_paths(artifact)
    features = card.stage == "pretrain" or isinstance(network.head, ProjectionHead | DecoupledHead | nn.Identity)
    expected = reference(network, features=features)
    names = [] if features else output_names(model, network, card, expected)
    described = about(kind, network, card, names, licence.identifier)
    if merged is not None:
        described["merged"] = [[own for own, to in enumerate(merged) if to == group] for group in range(len(names))]
    with atomic_folder(out) as folder:
        path = folder / kind.file
        try:
            with warnings.catch_warnings(action="ignore"):  # warnings for the libraries' developers
                program: Any
                if kind.is_traced:
                    program = trace(network, channels=card.channels, size=card.size, features=features)
                else:
                    program = timm_model(network, size=card.size, names=names)
                kind.write(program, path, described)
                run = kind.run(path)
                if not kind.is_traced:
                    expected, run = comparison(network, run, features=features)
                difference = largest_difference(expected, run, card)
        except (OSError, UserError):
            raise
        except Exception as error:  # the libraries raise different errors for what they cannot export
            reason = one_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
            raise UserError(f"{model}: cannot be exported as {form} ({reason})") from error
        if not difference <= kind.tolerance:  # also true for NaN
            raise UserError(
                f"{out / kind.file}: outputs that differ by {difference:.1e} from those of {model} found, expected at "
                f"most {kind.tolerance:.1e}; nothing is written"
            )
        files = sorted(folder.iterdir())
        weights = sha256(weights_path(model))
        same = {"names": names, "data": card.data, "weights": weights}
        formats = {form: described, **dict(_others(out, folder, kind, same))}
        export = Export(
            name=out.resolve().name,
            files=formats,
            library=FORMATS["timm" if "timm" in formats else form].library,
            artifact=artifact,
            licence=licence,
        )
        write_bytes(folder / README, readme(export).encode(errors="backslashreplace"))
        fingerprints = {"data": card.data, "weights": weights}
        fingerprints |= {file.name: sha256(file) for file in [*files, folder / README]}
        compared = {"max_difference": difference, "tolerance": kind.tolerance, "batches": list(BATCHES)}
        write_json(folder / kind.card, {**described, "compared": compared, "fingerprints": fingerprints})
        size = sum(file.stat().st_size for file in files)
    return Exported(out / kind.file, size, difference)


def _artifact(model: Path, card: ModelCard) -> Artifact:
    """Return the model with what it was made from, as far as it can be read; a line says why it cannot."""
    try:
        return lineage(model, everywhere=False)
    except UserError as error:
        info(f"{model}: provenance cannot be read ({error}); {README} leaves it out, and the licence is unknown")
        lost = Artifact(path=None, kind="model", stage="unknown", note=str(error))
        return Artifact(model.as_posix(), "model", card.stage, settings=dict(card.settings), parents=[lost])


def default_folder(model: Path, card: ModelCard, groups: int | None = None) -> Path:
    """Return exported/<stage>, or exported/<stage>-<name> for a folder with another name, such as a method's.

    The number of groups to which clusters are merged, if any, follows.
    """
    return EXPORTED / "-".join(dict.fromkeys([card.stage, model.resolve().name, *([str(groups)] if groups else [])]))


def largest_difference(expected: Forward, exported: Forward, card: ModelCard) -> float:
    """Return the largest difference of the outputs for `check_images`; infinite if shapes or types differ.

    It is divided by the largest expected output of the batch if that is above 1, as logits and features may be.
    """
    differences = []
    for count in BATCHES:
        images = check_images(count, card.channels, card.size)
        wanted, given = expected(images), exported(images)
        if wanted.shape != given.shape or wanted.dtype != given.dtype:
            return math.inf
        differences.append((wanted - given).abs().max() / wanted.abs().max().clamp_min(1))
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


def _need(kind: Format) -> None:
    """Raise UserError unless the libraries of a format are installed."""
    for name in kind.libraries:
        try:
            with warnings.catch_warnings(action="ignore"):
                import_module(name)
        except ImportError:
            raise UserError(f"--format: {name} is not installed; pip install 'sslpipe[export]'") from None


def _others(out: Path, folder: Path, kind: Format, same: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copy the files of other formats from `out` to `folder`; yield the cards of those of the same model.

    same: names of the outputs, and fingerprints of the images and the weights. A line names the files of other models.
    """
    for form, other in FORMATS.items():
        if other is kind or other.file == kind.file:
            continue
        present = [out / name for name in other.files if (out / name).exists()]
        for path in present:
            shutil.copy2(path, folder)
        card = _card(out / other.card)
        found = {"names": card.get("names"), **card.get("fingerprints", {})}
        if {key: found.get(key) for key in same} == same:
            yield form, card
        elif present:
            info(f"{out / other.file}: kept, but of another model, so {README} does not describe it; export it again")


def _card(path: Path) -> dict[str, Any]:
    """Return the card of an earlier export; empty for one that is missing or damaged."""
    try:
        content = read_json(path)
    except UserError:
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("fingerprints"), dict) else {}


def _check_out(out: Path) -> None:
    """Raise UserError for a folder that must not be replaced."""
    if out.name in ("", ".."):
        raise UserError(f"--out: '{out}' found, expected the name of a folder")
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out: {out} is a file, expected a folder")
    # Models of other origin have model.safetensors and config.json too.
    kinds = [kind for kind in FORMATS.values() if kind.is_traced or (out / kind.card).exists()]
    known = {README, *(name for kind in kinds for name in kind.files)}
    others = sorted(path.name for path in out.iterdir() if path.name not in known)
    if others:
        raise UserError(f"--out: {out} contains {others[0]}, expected a new folder or one of earlier exports")
    written = {_card(out / kind.card).get("fingerprints", {}).get(README) for kind in kinds}
    if (out / README).exists() and sha256(out / README) not in written:
        raise UserError(
            f"--out: {out / README} was edited, or is of another origin; move it, or name another folder; an export "
            "writes it anew"
        )
