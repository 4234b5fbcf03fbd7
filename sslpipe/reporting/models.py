"""The models of a project that the report shows, and their metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslpipe.data.store import Store
from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_json, sha256
from sslpipe.io.params import Params
from sslpipe.io.stages import CLUSTER_STAGES, key_of
from sslpipe.metrics.table import Shown, present, title_of
from sslpipe.nets.model_paths import CARD, weights_path
from sslpipe.running.evaluation import find_classifiers

AGAIN = "run 'sslpipe evaluate' again"


def find_models(project: Params, runs: Path) -> dict[str, Path]:
    """Name, as in the table of evaluate → folder of each model that predicts groups or classes.

    A stage without a block in params.yaml is not part of the project; a line names each other model that is missing.
    """
    stages = project.present({key_of(stage): runs / stage for stage in CLUSTER_STAGES})
    for name, folder in stages.items():
        if not (folder / CARD).exists():
            info(f"{name}: {folder} does not exist and is left out; 'dvc repro' runs all stages")
    found = {name: folder for name, folder in stages.items() if (folder / CARD).exists()}
    return {**found, **find_classifiers(project, runs)}


def read_metrics(evaluated: Path, store: Store, models: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return the metrics that evaluate wrote. Raises UserError if it did so for other images or other models."""
    metrics, card = read_json(evaluated / "metrics.json"), read_json(evaluated / "card.json")
    if not isinstance(metrics, dict) or not isinstance(card, dict):
        raise UserError(f"{evaluated}: not the output of evaluate; {AGAIN}")
    found = str(card.get("data"))
    if found != store.info.fingerprint:
        expected = store.info.fingerprint[:12]
        raise UserError(
            f"{evaluated / 'card.json'}: data: {found[:12]} found, expected {expected}, the store's; {AGAIN}"
        )
    scored = set(card.get("inputs", {}).values())
    for folder in models.values():
        if sha256(weights_path(folder)) not in scored:
            raise UserError(f"{evaluated / 'metrics.json'}: not of the model that is in {folder}; {AGAIN}")
    return metrics


def table_part(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of models as `sslpipe table` prints it: texts, numbers, and None for a metric that a row lacks.

    decimals: of each column, None for texts and whole numbers.
    """
    shown = present(metrics.values(), None, Shown.RUN)
    rows = [
        [title_of(name), *(_rounded(row[metric]) if metric in row else None for metric in shown)]
        for name, row in metrics.items()
    ]
    fractions = [any(isinstance(row.get(metric), float) for row in metrics.values()) for metric in shown]
    return {
        "columns": ["model", *shown],
        "rows": rows,
        "decimals": [None, *(3 if each else None for each in fractions)],
    }


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(float(value), 3)
