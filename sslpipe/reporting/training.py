"""Training curves: the history of every stage."""

import csv
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from sslpipe.io.errors import UserError
from sslpipe.nets.model_card import read_card
from sslpipe.nets.model_paths import CARD

HISTORY = "history.csv"


def training_part(models: Mapping[str, Path]) -> dict[str, Any]:
    """Return the part `training`: the history of each stage that has one.

    models: name → folder. Texts and values that are not finite become null.
    """
    return {"stages": list(_stages(models))}


def _stages(models: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    for name, folder in models.items():
        path = folder / HISTORY
        if path.exists():
            columns, rows = read_history(path)
            yield {"name": name, "method": method_of(name, folder), "columns": columns, "rows": rows}


def method_of(name: str, folder: Path) -> str:
    """Return the method of a model: the end of its name, such as fixmatch, or what its card says, or its stage."""
    stage, _, method = name.partition(".")
    return method or str(read_card(folder / CARD)[1].settings.get("method", stage))


def read_history(path: Path) -> tuple[list[str], list[list[float | None]]]:
    """Return the columns of a history and its rows of numbers; raises UserError if it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not readable as a table ({error}); run the stage that writes it again") from None
    if any(len(row) != len(columns) for row in rows):
        raise UserError(f"{path}: rows of another length than the header; run the stage that writes it again")
    return columns, [[_number(text) for text in row] for row in rows]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if not isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
