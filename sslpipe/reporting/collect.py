"""From the outputs of all stages to the report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sslpipe.data.store import Store
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import atomic_folder, write_json
from sslpipe.io.params import Params
from sslpipe.io.stages import MERGED_FROM
from sslpipe.io.text import counted
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_paths import weights_path
from sslpipe.reporting import duplicates, label_doubts
from sslpipe.reporting.encoding import encoded
from sslpipe.reporting.groups import first_two, group_mapping, group_names, group_part
from sslpipe.reporting.map import MAP_NEIGHBORS, map_part
from sslpipe.reporting.models import find_models, read_metrics, table_part
from sslpipe.reporting.neighbors import Similar, find_similar, neighbors_part
from sslpipe.reporting.page import write_page, write_single
from sslpipe.reporting.pictures import FOLDER, write_sheets
from sslpipe.reporting.predictions import Outputs, small_pixels
from sslpipe.reporting.scores import score_part
from sslpipe.reporting.settings import ReportSettings
from sslpipe.reporting.shown_images import ShownImages, choose_shown
from sslpipe.reporting.single import cut_for_single
from sslpipe.reporting.summary import labelled_text, originals, setting_rows, stage_folders, title_of_project
from sslpipe.reporting.training import method_of, training_part
from sslpipe.running.features import find_features

FIRST_OF_GROUP, FIRST_AT_MOST = 12, 4096
"""Pictures of a group, and of all groups, on the sheets of the first page (own choice: at most four sheets)."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the report is made from."""

    project: Params
    store: Store
    pretrained: Path
    featured: Path
    evaluated: Path
    runs: Path
    lineage: Sequence[str]
    """Lines that `sslpipe inspect` prints of the evaluation."""
    device: torch.device


@dataclass(frozen=True)
class Content:
    """The content of the report's pages."""

    images: ShownImages
    summary: dict[str, Any]
    parts: dict[str, Any]
    """Name of a file in data/ → content for JSON."""
    files: list[Path]
    """Weights that it was made from."""


def write_report(inputs: Inputs, out: Path) -> None:
    """Write the report to the folder `out`. Raises UserError for inputs that do not fit together."""
    settings = inputs.project.parse(ReportSettings, "report")
    with atomic_folder(out) as folder:
        content = collect(inputs, settings, out, whole=True)
        (folder / FOLDER).mkdir()
        pictures = write_sheets(content.images, folder / FOLDER, first_page(content.parts))
        write_page(folder, {**content.summary, "pictures": pictures}, content.parts)
        files = [inputs.evaluated / "card.json", *content.files]
        card = card_for("report", inputs.store.info, settings, parent=None, inputs=files)
        write_json(folder / "card.json", asdict(card))


def write_single_report(inputs: Inputs, path: Path) -> None:
    """Write one file with the groups alone, small enough for a mail; errors as `write_report`."""
    if path.is_dir():
        raise UserError(f"--single: {path} is a folder; name a file such as groups.html")
    settings = inputs.project.parse(ReportSettings, "report")
    content = collect(inputs, settings, path.parent, whole=False)
    summary, parts, pictures = cut_for_single(content.images, content.summary, content.parts)
    write_single(path, summary, parts, pictures)


def collect(inputs: Inputs, settings: ReportSettings, out: Path, *, whole: bool) -> Content:
    """Return the content of the report. whole: False leaves out all but groups and scores."""
    project, store = inputs.project, inputs.store
    models = find_models(project, inputs.runs)
    metrics = read_metrics(inputs.evaluated, store, models)
    images = choose_shown(store, settings.images, project.seed)
    notes = list(_notes(images, models, settings))
    known = project.present({"pretrain": inputs.pretrained})
    stored = find_features(inputs.featured, store, inputs.pretrained) if known else None
    outputs = Outputs(images, inputs.device, stored)
    features, source = outputs.compared({**known, **models})
    searched = max(settings.neighbors, label_doubts.VOTERS, MAP_NEIGHBORS if settings.map else 0)
    similar = find_similar(features, searched if whole else settings.neighbors, inputs.device)
    del features
    notes += _level_notes(models, metrics, settings.groups)
    entries, parts = _models(outputs, models, metrics, similar, settings.groups)
    parts["images"] = images_part(images)
    if whole:
        parts |= _whole(images, similar, settings, inputs, source, notes)
        parts["training"] = training_part({**known, **models})
    for note in notes:
        info(f"report: {note}")
    summary = {
        "title": title_of_project(store.root),
        "version": store.info.version,
        "protocol": store.info.protocol,
        "seed": project.seed,
        "images": {split: len(index) for split, index in images.index.items()},
        "size": store.info.size,
        "classes": list(store.classes) or None,
        "pictures": None,
        "originals": originals(store.root, out),
        "models": entries,
        "table": table_part(metrics),
        "labelled": labelled_text(store),
        "settings": setting_rows(project, stage_folders(project, inputs.runs, list(models)), asdict(settings)),
        "lineage": list(inputs.lineage),
        "notes": notes,
        "single": False,
    }
    return Content(images, summary, parts, [weights_path(folder) for folder in models.values()])


def _models(
    outputs: Outputs,
    models: Mapping[str, Path],
    metrics: Mapping[str, Any],
    similar: Similar,
    merged_to: int | None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the summary's entry of each model, and its part. merged_to: number of groups of those with clusters."""
    images, entries, parts = outputs.images, [], {}
    for place, prediction in enumerate(outputs.predictions(models, merged_to)):
        mapping = group_mapping(prediction, first_two(prediction.probability)[0], images)
        names = group_names(mapping, images.store.classes)
        parts[f"model-{place}"] = {
            **group_part(prediction, images, similar, names),
            **score_part(prediction, images, mapping, names),
        }
        entries.append(
            {
                "name": prediction.name,
                "stage": prediction.card.stage,
                "method": method_of(prediction.name, models[prediction.name]),
                "kind": "classes" if prediction.is_classifier else "groups",
                "groups": len(names),
                **({} if prediction.merged is None else {"own": len(prediction.merged)}),
                "file": f"model-{place}",
                "scores": metrics.get(prediction.name),
            }
        )
    return entries, parts


def _whole(
    images: ShownImages,
    similar: Similar,
    settings: ReportSettings,
    inputs: Inputs,
    source: str,
    notes: list[str],
) -> dict[str, Any]:
    """Return the parts that the whole report has beside the groups; adds to the notes what they leave out."""
    doubtful, how_labels, label_note = label_doubts.find_label_doubts(images, similar, inputs.device)
    sets, how_sets, set_note = duplicates.find_duplicates(images, similar, small_pixels(images).numpy())
    # Without labels a note has already said what is left out.
    notes += [note for note in (set_note, label_note if images.known.any() else None) if note]
    how = {
        "duplicates": f"{how_sets} {set_note}" if set_note else how_sets,
        "labels": f"{how_labels} {label_note}" if label_note and doubtful else how_labels,
    }
    return {
        "map": map_part(similar, inputs.project.seed, source) if settings.map else None,
        "neighbors": neighbors_part(similar, settings.neighbors),
        "doubts": {"duplicates": sets, "labels": doubtful, "how": how},
    }


def first_page(parts: Mapping[str, Any]) -> list[int]:
    """Return the images of the first page, the first prototypes of each group of the first model, each once."""
    groups = parts["model-0"]["groups"] if "model-0" in parts else []
    shown = dict.fromkeys(image for group in groups for image in group["prototypes"][:FIRST_OF_GROUP])
    return list(shown)[:FIRST_AT_MOST]


def images_part(images: ShownImages) -> dict[str, Any]:
    """Return the part `images`."""
    return {
        "count": len(images),
        "names": images.names,
        "split": encoded(images.split, "u1"),
        "label": encoded(images.label, "i2"),
        "given": encoded(images.given.astype("u1"), "u1"),
    }


def _level_notes(
    models: Mapping[str, Path], metrics: Mapping[str, Mapping[str, Any]], groups: int | None
) -> Iterator[str]:
    """Yield a sentence if evaluate has scored another number of groups than the report shows."""
    for name in models:
        row = metrics.get(name, {})
        is_merged = MERGED_FROM in row
        shown = groups or row.get(MERGED_FROM, row.get("outputs"))
        if (is_merged or (groups and "acc" not in row)) and row.get("outputs") != shown:
            yield (
                f"{name} is shown with {shown} groups (report.groups), while the table of models has scored it with "
                f"{row['outputs']} (evaluate.groups)."
            )


def _notes(images: ShownImages, models: Mapping[str, Path], settings: ReportSettings) -> Sequence[str]:
    """Return a sentence for everything that the report leaves out."""
    store, notes = images.store, []
    total = store.info.train + store.info.held_out + store.info.test
    if len(images) < total:
        notes.append(
            f"{len(images):,} of {total:,} images are shown, a random sample. Sizes of groups, confusion, classes and "
            "calibration are of these, the table of models is of all; the setting report.images raises the number."
        )
    if store.info.channels > 3:
        notes.append(f"Pictures show the first three of {store.info.channels} channels.")
    if not models:
        notes.append("No model predicts groups or classes, so images, map and duplicates are shown alone.")
    if not images.known.any():
        notes.append(
            "No label is known: names and purity of groups, confusion, metrics of classes, calibration and doubtful "
            "labels are left out, as they need labels."
        )
    elif not (images.known & images.scored).any():
        notes.append(
            "No label of an evaluated image is known: confusion, metrics of classes and calibration are left out, and "
            "groups are named by the other images' labels."
        )
    elif unknown := int((~images.known).sum()):
        notes.append(f"{counted(unknown, 'image')} of {len(images):,} without a known label: scores are of the others.")
    if not settings.map:
        notes.append("The map is left out: report.map is false.")
    return notes
