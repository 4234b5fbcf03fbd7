"""The provenance of an artifact: settings, metrics and inputs of a folder under runs/, back to the images."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sslpipe.io.errors import UserError
from sslpipe.io.files import read_json, sha256
from sslpipe.io.version import UNKNOWN, own_version
from sslpipe.nets.model_paths import CARD, weights_path
from sslpipe.tools.export_files import FILES, card_of
from sslpipe.tools.yaml_text import flat

STORE, STAGE_CARD, REPORT, METRICS = "store.json", "card.json", "report.json", "metrics.json"
EXPORTS = tuple(map(card_of, FILES.values()))
KINDS = (CARD, STAGE_CARD, STORE, *EXPORTS)
"""Files by which the kind of a folder is recognised."""


@dataclass
class Artifact:
    """A folder that a stage wrote, or a reference to one that was not found."""

    path: str | None
    """Path of the folder; None if it was not found."""
    kind: str
    """model, files (neighbours, metrics), images or export."""
    stage: str
    """Stage that wrote it."""
    version: str = UNKNOWN
    """Version of sslpipe that wrote it."""
    data: str | None = None
    """Fingerprint of the images."""
    fingerprint: str | None = None
    """sha256 of the weights of a model."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Network, sizes, numbers of images."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the stage."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Metrics that the stage or evaluate wrote."""
    note: str = ""
    """Why it was not found, or what is wrong with it."""
    parents: list["Artifact"] = field(default_factory=list)
    """Artifacts that it was made from."""


def trace(path: Path, *, everywhere: bool = True) -> Artifact:
    """Return the artifact at a path, a folder or a file in it; raises UserError if no stage wrote it.

    everywhere: whether inputs of an artifact outside of runs/ are searched for in all folders beside it.
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if _marker(folder) is None:
        raise UserError(f"{path}: not the output of a stage, expected {', '.join(KINDS)} there, as in runs/self-label")
    return _Search(_runs(folder) or (folder.parent if everywhere else folder)).describe(folder)


class _Search:
    """The artifacts in a folder; each is described once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, Artifact] = {}
        self._begun: set[Path] = set()

    def describe(self, folder: Path) -> Artifact:
        """Return an artifact with its parents."""
        if folder not in self._known:
            marker = _marker(folder)
            assert marker is not None
            self._begun.add(folder)
            describe = {CARD: self._model, STAGE_CARD: self._files, STORE: self._store}.get(marker, self._export)
            self._known[folder] = describe(folder, read_json(folder / marker))
        return self._known[folder]

    def _model(self, folder: Path, card: Mapping[str, Any]) -> Artifact:
        artifact = self._carded(folder, card, "model")
        artifact.note = _fault(folder)
        network = card["network"]
        artifact.fingerprint = sha256(weights_path(folder))
        backbone, head = network["backbone"], network["head"]
        artifact.metadata = {
            "network": backbone.get("architecture") or backbone["name"],
            "head": {key: value for key, value in head.items() if key != "kind"} | {"kind": head["kind"]}
            if head
            else None,
            "size": card["size"],
            **{key: backbone[key] for key in ("side",) if backbone.get(key)},
            "channels": card["channels"],
            **_value_range(card),
            "classes": card["classes"],
            **{key: network[key] for key in ("monitors",) if network.get(key)},
            "bytes": weights_path(folder).stat().st_size,
        }
        artifact.metrics = {"last epoch": _last_row(folder / "history.csv"), **self._evaluated(artifact.fingerprint)}
        return artifact

    def _files(self, folder: Path, card: Mapping[str, Any]) -> Artifact:
        artifact = self._carded(folder, card, "files")
        artifact.metrics = read_json(folder / METRICS) if (folder / METRICS).exists() else {}
        return artifact

    def _store(self, folder: Path, info: Mapping[str, Any]) -> Artifact:
        report = read_json(folder / REPORT) if (folder / REPORT).exists() else {}
        labelled = report.get("labelled", {})
        return Artifact(
            path=folder.as_posix(),
            kind="images",
            stage="prepare",
            version=info.get("version", UNKNOWN),
            data=info["fingerprint"],
            metadata={
                "source": report.get("source"),
                **{key: info[key] for key in ("size", "channels", "train", "held_out", "test", "protocol")},
                **_value_range(info),
                "labelled": labelled.get("images"),
                "classes": list(labelled.get("classes", {})),
                "broken": len(report.get("broken", [])),
            },
            settings={"seed": report.get("seed"), **(report.get("source") or {})},
        )

    def _export(self, folder: Path, card: Mapping[str, Any]) -> Artifact:
        return Artifact(
            path=folder.as_posix(),
            kind="export",
            stage=card["stage"],
            version=card["sslpipe"],
            data=card["fingerprints"]["data"],
            metadata={key: card[key] for key in ("file", "input", "output", "names")},
            settings=dict(card["settings"]),
            metrics=card["compared"],
            parents=[self._by_weights(card["fingerprints"]["weights"])],
        )

    def _carded(self, folder: Path, card: Mapping[str, Any], kind: str) -> Artifact:
        """Return an artifact with the entries that all cards have, and its parents."""
        artifact = Artifact(
            path=folder.as_posix(),
            kind=kind,
            stage=card["stage"],
            version=card.get("version", UNKNOWN),
            data=card["data"],
            settings=dict(card["settings"]),
        )
        if card["parent"]:
            artifact.parents.append(self._by_weights(card["parent"]))
        paths: set[Path] = set()
        for name, fingerprint in card.get("inputs", {}).items():
            parent = self._by_file(Path(name), fingerprint)
            if parent.path is None or Path(parent.path) not in paths:
                artifact.parents.append(parent)
                paths |= {Path(parent.path)} if parent.path else set()
        if not any(parent.kind == "images" for parent in artifact.parents):
            artifact.parents.append(self._by_data(card["data"]))
        return artifact

    @cached_property
    def _weights(self) -> list[tuple[str, Path]]:
        """Fingerprints of weights, and the folders of their models."""
        return [(sha256(path), path.parent) for path in sorted(self.root.rglob(weights_path(Path()).name))]

    def _by_weights(self, fingerprint: str) -> Artifact:
        """Return the model with these weights; a model that learned nothing has its parent's, but is not its parent."""
        begun = self._begun - self._known.keys()
        folders = [folder for each, folder in self._weights if each == fingerprint and folder not in begun]
        if folders:
            return self.describe(folders[-1])
        note = f"no model below {self.root} has these weights: it was replaced or is in another folder"
        return Artifact(path=None, kind="model", stage="unknown", fingerprint=fingerprint, note=note)

    def _by_file(self, name: Path, fingerprint: str) -> Artifact:
        """Return the artifact of a file, independently of the folder that the stages ran in."""
        candidates = [name, *(self.root.parent / Path(*name.parts[i:]) for i in range(len(name.parts)))]
        file = next((path for path in candidates if path.is_file()), None)
        folder = next((parent for parent in file.parents if _marker(parent)), None) if file else None
        if file is None or folder is None:
            note = f"{name} does not exist"
            return Artifact(path=None, kind="files", stage="unknown", fingerprint=fingerprint, note=note)
        artifact = self.describe(folder)
        if sha256(file) != fingerprint:
            note = f"{file} has changed since it was read"
            return Artifact(path=None, kind=artifact.kind, stage=artifact.stage, fingerprint=fingerprint, note=note)
        return artifact

    def _by_data(self, fingerprint: str) -> Artifact:
        """Return the store with these images."""
        for path in sorted(self.root.rglob(STORE)):
            if read_json(path).get("fingerprint") == fingerprint:
                return self.describe(path.parent)
        note = f"no images below {self.root} have this fingerprint: they were replaced or are in another folder"
        return Artifact(path=None, kind="images", stage="prepare", data=fingerprint, note=note)

    def _evaluated(self, fingerprint: str) -> dict[str, Any]:
        """Return the metrics that evaluate wrote for exactly these weights; empty if there are none."""
        folder = self.root / "evaluate"
        if not (folder / STAGE_CARD).exists():
            return {}
        metrics = read_json(folder / METRICS)
        for name, scored in read_json(folder / STAGE_CARD).get("inputs", {}).items():
            parts = Path(name).parent.parts
            model = ".".join(parts[parts.index("runs") + 1 :] if "runs" in parts else parts[-2:]).replace("-", "_")
            if scored == fingerprint and model in metrics:
                layers = {row.partition("/")[2]: each for row, each in metrics.items() if row.startswith(f"{model}/")}
                return {"test images": metrics[model]} | {f"test images, {layer}": layers[layer] for layer in layers}
        return {}


def _fault(folder: Path) -> str:
    """Return what is wrong with the weights of a model, in words; empty for a model that can be loaded.

    Raises UserError for a card of another form, which cannot be described.
    """
    from sslpipe.nets.model_file import load_model  # only a model needs torch

    try:
        load_model(folder)
    except UserError as error:
        if CARD in str(error).partition(": ")[0]:
            raise
        return str(error)
    return ""


def _marker(folder: Path) -> str | None:
    return next((name for name in KINDS if (folder / name).is_file()), None)


def _runs(folder: Path) -> Path | None:
    """Return the folder to search for parents: runs/ above `folder`, else runs/ in a folder above; None for neither."""
    around = [folder, *folder.parents]
    runs = [parent for parent in around if parent.name == "runs"]
    return next(iter(runs + [parent / "runs" for parent in around if (parent / "runs").is_dir()]), None)


def _last_row(path: Path) -> dict[str, Any]:
    """Return the last row of a history with numbers converted; empty if there is none."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {key: _number(value) for key, value in rows[-1].items() if value} if rows else {}


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def lines(artifact: Artifact, *, indent: str = "", shown: set[str] | None = None) -> Iterator[str]:
    """Yield an artifact as lines of text, with indented parents; an artifact that was already shown is only named."""
    shown = set() if shown is None else shown
    name = artifact.path or "(not found)"
    other = artifact.version != UNKNOWN != own_version() != artifact.version
    here = f" (installed: {own_version()})" if other else ""
    yield f"{indent}{name}: {artifact.kind} of {artifact.stage}, sslpipe {artifact.version}{here}"
    inner = indent + "  "
    if artifact.path in shown:
        yield f"{inner}(as above)"
        return
    if artifact.path:
        shown.add(artifact.path)
    if artifact.note:
        yield f"{inner}{'broken: ' if artifact.path else ''}{artifact.note}"
    for title, fingerprint in (("weights", artifact.fingerprint), ("images", artifact.data)):
        if fingerprint:
            yield f"{inner}{title}: {fingerprint[:16]}"
    for key, value in {**artifact.metadata, **flat(artifact.settings, "set "), **flat(artifact.metrics)}.items():
        yield f"{inner}{key}: {_shown(value)}"
    if artifact.parents:
        yield f"{inner}made from:"
    for parent in artifact.parents:
        yield from lines(parent, indent=inner + "  ", shown=shown)


def _value_range(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the range of values in a card or in store.json, if it has one."""
    return {key: content[key] for key in ("value_range",) if key in content}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        few = ", ".join(map(_shown, value[:12]))
        return f"{few}, ... ({len(value)})" if len(value) > 12 else few
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    return "-" if value is None else str(value)
