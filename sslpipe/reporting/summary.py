"""What the report says of a project as a whole: settings, labels, where the originals are."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sslpipe.data.store import Store
from sslpipe.io.files import project_path, read_json
from sslpipe.io.params import Params
from sslpipe.io.stages import RELIABLE, SHARED_KEYS, STAGES, key_of
from sslpipe.io.text import counted
from sslpipe.nets.model_paths import CARD

NO_SETTINGS = ("method", "labels", "labels_chosen", RELIABLE, "start")
"""Entries of a model's card that are no settings of its method."""
ABSOLUTE = re.compile(r"(?:~|[A-Za-z]:[\\/]|[\\/]).*[\\/]")


def without_machine(value: Any) -> Any:
    """Return a value in which texts that are absolute paths, of this machine, have their last part alone."""
    if isinstance(value, Mapping):
        return {key: without_machine(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_machine(item) for item in value]
    if isinstance(value, str) and (found := ABSOLUTE.match(value)):
        return f"…/{value[found.end() :]}"
    return value


def title_of_project(prepared: Path) -> str:
    """Return the name of the images: that of their folder, or of the data set."""
    source = _source(prepared)
    path = str(source.get("path") or "").rstrip("/\\")
    name = re.split(r"[\\/]", path)[-1] if path else ""
    return name if name.strip(".") else str(source.get("name") or "images")


def originals(prepared: Path, out: Path) -> str | None:
    """Return the URL of the folder of images, relative to the report's folder, with a / at its end; None for none."""
    path = _source(prepared).get("path")
    if not path:
        return None
    if not project_path(str(path)).is_dir():
        return None
    # Not of the path that was found, which `dvc exp run --temp` finds outside of its temporary copy of the project.
    return quote(Path(os.path.relpath(os.path.expanduser(str(path)), out)).as_posix()) + "/"


def _source(prepared: Path) -> dict[str, Any]:
    path = prepared / "report.json"
    report = read_json(path) if path.exists() else {}
    return dict(report.get("source") or {}) if isinstance(report, dict) else {}


def labelled_text(store: Store) -> str | None:
    """Return how many labels were given for training, such as "40 labels (4 a class)"; None for none."""
    _, label = store.labelled()
    if not len(label):
        return None
    count = Counter(label.tolist())
    each = sorted({count[i] for i in range(len(store.classes))})
    span = str(each[0]) if len(each) == 1 else f"{each[0]:,} to {each[-1]:,}"
    how = ", chosen, not drawn" if store.labels_chosen else ""
    return f"{counted(len(label), 'label')} ({span} a class){how}"


def setting_rows(project: Params, folders: Mapping[str, Path], own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every setting: block, key, value, source, which is the name of the parameters file or "default".

    folders: name → folder of models and of stages with a card, which has the settings of the run. own: of the report.
    """
    rows = list(_rows(project, "", {key: project.tree[key] for key in ("seed", "protocol") if key in project.tree}))
    for block in ("prepare", "network"):
        rows += _rows(project, block, project.tree.get(block) or {})
    for name, folder in folders.items():
        card = next((folder / each for each in (CARD, "card.json") if (folder / each).exists()), None)
        if card is None:
            continue
        settings = read_json(card).get("settings", {})
        block = name if "." in name or "method" not in settings else f"{name}.{settings['method']}"
        rows += _rows(project, block, {key: value for key, value in settings.items() if key not in NO_SETTINGS})
    return [*rows, *_rows(project, "report", own)]


def _rows(project: Params, block: str, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    stage = block.partition(".")[0]
    for key, value in _flat(settings):
        shared = key.partition(".")[0] in SHARED_KEYS.get(stage, ())
        place = stage if shared else block
        given = _is_at(project.tree, f"{place}.{key}" if place else key)
        shown = without_machine(value)
        source = project.path.name if given else "default"
        yield {"block": place, "key": key, "value": shown, "source": source}


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; an empty mapping is a value."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _is_at(tree: Any, key: str) -> bool:
    """Return whether a tree has a value at a dotted key."""
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True


def stage_folders(project: Params, runs: Path, models: Sequence[str]) -> dict[str, Path]:
    """Block → folder of each stage of the project, in the order of the pipeline; models: names such as semisup.uda."""
    folders: dict[str, Path] = {}
    for stage in STAGES:
        key = key_of(stage)
        if key in ("pretrain", "features", "mine_neighbors", "cluster", "self_label", "evaluate"):
            folders[key] = runs / stage
        folders |= {name: runs.joinpath(*name.split(".")) for name in models if name.startswith(f"{key}.")}
    return {key: folder for key, folder in folders.items() if key.partition(".")[0] in project.tree}
