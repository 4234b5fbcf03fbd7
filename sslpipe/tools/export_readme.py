"""README.md of an export: a model card as Hugging Face's hub reads it, and people."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from sslpipe.io.stages import key_of, predicts_clusters
from sslpipe.io.text import counted, shown
from sslpipe.metrics.table import METRICS
from sslpipe.tools.export_about import NOTHING
from sslpipe.tools.export_licence import Licence
from sslpipe.tools.lineage import Artifact, lines
from sslpipe.tools.report_lineage import every

README = "README.md"
SCORED = "test images"
"""Entry of an artifact's metrics that evaluate wrote."""
ACTIVE = re.compile(r"[\\`*_\[\]<>|&~$]")
"""Characters that change how Markdown is shown."""
PAPER = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


@dataclass(frozen=True, kw_only=True)
class Export:
    """What the card of an exported model is written from."""

    name: str
    """Name of the folder."""
    files: Mapping[str, Mapping[str, Any]]
    """Format → the content of its file's card, of all formats in the folder with the same weights; the first is the one
    that is being written."""
    library: str
    """The library that the hub shows."""
    artifact: Artifact
    """The model, with what it was made from, without paths of this machine."""
    licence: Licence

    @property
    def about(self) -> Mapping[str, Any]:
        """The card of the file that is being written."""
        return next(iter(self.files.values()))

    @property
    def names(self) -> Sequence[str]:
        """Classes or clusters of the outputs; empty for features."""
        names: Sequence[str] = self.about["names"]
        return names

    @property
    def is_clusters(self) -> bool:
        """Whether the outputs are clusters."""
        return predicts_clusters(self.about["stage"], self.about["settings"])

    @property
    def scored(self) -> Mapping[str, Any]:
        """The metrics that evaluate wrote for exactly these weights and outputs; empty if there are none."""
        found: Mapping[str, Any] = self.artifact.metrics.get(SCORED, {})
        of_another_level = self.is_clusters and found.get("outputs", len(self.names)) != len(self.names)
        return {} if of_another_level else found

    @property
    def images(self) -> Mapping[str, Any]:
        """What is known of the images; empty if they were not found."""
        return next((each.metadata for each in every(self.artifact) if each.kind == "images" and each.metadata), {})

    @property
    def methods(self) -> list[tuple[str, str]]:
        """Stage and method of the model and of those that it was made from."""
        models = (each for each in every(self.artifact) if each.kind == "model" and "method" in each.settings)
        return list(dict.fromkeys((each.stage, str(each.settings["method"])) for each in models))


def readme(export: Export) -> str:
    """Return the text of the card: the block of metadata in YAML, and Markdown."""
    return f"---\n{metadata(export)}\n---\n\n" + "\n\n".join(_sections(export)) + "\n"


def metadata(export: Export) -> str:
    """Return the metadata of the card in YAML, written by huggingface_hub."""
    from huggingface_hub import EvalResult, ModelCardData

    task = "image-classification" if export.names else "image-feature-extraction"
    papers = [f"arxiv:{number}" for _, _, text in _papers(export.methods) for number in PAPER.findall(text)]
    row, images = export.scored, export.images
    results = [
        EvalResult(
            task_type=task,
            dataset_type=_source_type(images),
            dataset_name=_source_name(images),
            dataset_split=_split(row),
            dataset_args={key: row[key] for key in ("protocol", "images") if key in row},
            metric_type="accuracy" if name == "acc" else name,
            metric_name=name,
            metric_value=row[name] if isinstance(row[name], int) else round(float(row[name]), 4),
            metric_args={key: row[key] for key in ("seed", "labels") if key in row},
        )
        for name in METRICS
        if name in row
    ]
    data: Any = ModelCardData(
        license=export.licence.identifier,
        license_name=export.licence.name,
        library_name=export.library,
        pipeline_tag=task,
        tags=list(dict.fromkeys(["sslpipe", *export.files, *(["clustering"] if export.is_clusters else []), *papers])),
        model_name=export.name if results else None,
        eval_results=results or None,
        classes=list(export.names) or None,
    )
    text: str = data.to_yaml()
    if yaml.safe_load(text) == data.to_dict():
        return text
    # Some separators of lines in names, such as U+0085, are read as blanks unless they are escaped.
    return yaml.safe_dump(data.to_dict(), sort_keys=False).strip()


def _sections(export: Export) -> Iterator[str]:
    """Yield the parts of the text."""
    about, names = export.about, export.names
    kinds = "clusters" if export.is_clusters else "classes"
    what = f"{len(names)} {kinds}" if names else "features"
    method = export.artifact.settings.get("method")
    by = f"the stage `{about['stage']}`" + (f" (method `{method}`)" if method else "")
    yield f"# {escaped(export.name)}: images to {what}"
    yield (
        f"A network ({escaped(str(export.artifact.metadata.get('network', 'unknown')))}) that "
        + (f"predicts one of {what} for an image" if names else "computes features of an image")
        + f", trained by {by} of sslpipe {about['sslpipe']}."
    )
    for form, each in export.files.items():
        yield f"## Use: {form}\n\n" + "\n".join(_use(each))
    if names:
        yield f"## {kinds.capitalize()}\n\n" + "\n".join(_names_table(export))
    yield "## Metrics\n\n" + "\n".join(_metrics(export))
    yield "## Training images\n\n" + "\n".join(f"* {line}" for line in _training(export))
    yield "## Limits\n\n" + "\n".join(f"* {line}" for line in _limits(export))
    yield f"## Licence\n\n{export.licence.sentence}"
    if papers := _papers(export.methods):
        yield "## Methods and papers\n\n" + "\n".join(
            f"* `{stage}: {name}`: {escaped(text)}" for stage, name, text in papers
        )
    provenance = "\n".join(lines(export.artifact))
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", provenance))])
    yield f"## Provenance\n\nAs `sslpipe inspect` shows it:\n\n{fence}text\n{provenance}\n{fence}"


def _use(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield how to run a file, and what it takes and returns."""
    given, output = about["input"], about["output"]
    example = about["example"]
    yield "\n".join(["```python", *example, "```", ""])
    yield f"* File: `{about['file']}`, run in this folder."
    for title, entry in (("Input", given), ("Output", output)):
        shape = " × ".join(map(str, entry["shape"]))
        meaning = entry["meaning"].replace("in names", "in the table below")
        yield f"* {title} `{entry['name']}`, {entry['dtype']}, {shape}: {meaning}."
    yield f"* Images must be prepared so: {given['prepare']}. The example leaves out what few images need."
    if given["inside"] != NOTHING:
        yield f"* Inside of the file: {given['inside']}."
    if "transform" in given:
        yield f"* {given['transform'][:1].upper()}{given['transform'][1:]}."


def _names_table(export: Export) -> Iterator[str]:
    merged = export.about.get("merged")
    if merged:
        own = sum(map(len, merged))
        yield f"The model has {own} clusters of its own; the probability of an output is the sum of theirs.\n"
        yield from ("| output | name | own clusters |", "|---|---|---|")
        for place, (name, parts) in enumerate(zip(export.names, merged, strict=True)):
            yield f"| {place} | {escaped(name)} | {', '.join(map(str, parts))} |"
        return
    yield from ("| output | name |", "|---|---|")
    for place, name in enumerate(export.names):
        yield f"| {place} | {escaped(name)} |"


def _metrics(export: Export) -> Iterator[str]:
    """Yield the metrics of evaluate with their protocol."""
    row = export.scored
    found = [name for name in METRICS if name in row]
    if not found:
        yield (
            f"Not evaluated: no metrics of exactly these weights{' and clusters' if export.is_clusters else ''} were "
            "found. Run `sslpipe evaluate` and export again."
        )
        return
    labels = f", {row['labels']} labels used" if "labels" in row else ""
    yield (
        f"Protocol `{row['protocol']}`: {counted(int(row['images']), 'image')} scored ({_split(row)}), seed "
        f"{row['seed']}{labels}; one run, fractions of 1.\n"
    )
    yield from ("| metric | value |", "|---|---|")
    for name in found:
        value = row[name]
        yield f"| `{name}` | {value if isinstance(value, int) else f'{value:.4f}'} |"


def _training(export: Export) -> Iterator[str]:
    """Yield what is known of the images, a sentence each."""
    images = export.images
    if not images:
        yield "The images were not found when the model was exported."
        return
    yield f"Source: {escaped(_source_name(images))}, stored at {images['size']} px, channels: {images['channels']}."
    yield (
        f"{counted(images['train'], 'training image')}, {images['held_out']:,} held out for model selection, "
        f"{images['test']:,} test images (protocol `{images['protocol']}`)."
    )
    labels = export.artifact.settings.get("labels", export.scored.get("labels"))
    if labels is not None:
        yield f"{counted(int(labels), 'label')} used."
    elif export.is_clusters or not export.names:
        yield "No label used."


def _limits(export: Export) -> Iterator[str]:
    """Yield what the model cannot do, a sentence each."""
    images, row = export.images, export.scored
    number = f"the {images['train']:,} images" if images else "the images"
    if export.names:
        yield (
            f"Every image gets one of the {len(export.names)} outputs, whatever it shows; images unlike {number} "
            "of the training can be wrong with high confidence."
        )
        ece = f" The expected calibration error on the scored images is {row['ece']:.3f}." if "ece" in row else ""
        yield f"The confidence is not calibrated.{ece}"
    else:
        yield f"The features suit images like {number} of the training; others may be closer together than they look."
    if export.is_clusters:
        yield "Clusters have no names, and their numbers change if the model is trained again: look at their images."
    if row:
        yield "The metrics are of one run with one seed; `sslpipe repeat` measures how much they vary."
    yield "Small images are enlarged, and what is outside an image's central square is not seen."


def _papers(methods: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Return stage, method and the first line of the method's docstring, which names its paper; nothing is imported."""
    found = []
    for stage, name in methods:
        spec = find_spec(f"sslpipe.methods.{key_of(stage)}.{name}") if name.isidentifier() else None
        if spec is not None and spec.origin is not None:
            text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
            found.append((stage, name, text.partition("\n")[0]))
    return found


def _source_name(images: Mapping[str, Any]) -> str:
    """Return the name of the images: that of their folder, without the folders above it, or of the data set."""
    source = images.get("source") or {}
    path = str(source.get("path") or "").rstrip("/\\")
    name = re.split(r"[\\/]", path)[-1].strip(".")
    return name or str(source.get("name") or "images")


def _source_type(images: Mapping[str, Any]) -> str:
    """Return the kind of the images as the hub calls it: imagefolder for a folder, else the name of the data set."""
    name = str((images.get("source") or {}).get("name") or "folder")
    return "imagefolder" if name == "folder" else name


def _split(row: Mapping[str, Any]) -> str:
    return "test" if row.get("protocol") == "split" else "train and held_out"


def escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, in a line or a table's cell."""
    return ACTIVE.sub(lambda found: f"&#{ord(found[0])};", shown(text))
