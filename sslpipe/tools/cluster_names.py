"""Tables with names of a model's clusters, which evaluate and the page to label write, and people."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from sslpipe.io.console import info
from sslpipe.io.errors import UserError
from sslpipe.io.files import read_json, sha256
from sslpipe.io.text import counted
from sslpipe.metrics.scored_models import MODEL_DIGEST
from sslpipe.nets.model_paths import weights_path
from sslpipe.preparation.tables import Column, quoted, read_table

CLUSTER = Column("cluster")
CLASS = Column("class", frozenset({"classname", "label", "name"}))
MAX_HEADER = 10_000
"""Characters of a first line that are searched for the column of digests."""
CLUSTER_NUMBER = re.compile(r"\s*(?:cluster\s*)?([0-9]{1,9})(?:\.0)?\s*", re.IGNORECASE)


def read_names(path: Path) -> dict[str, str]:
    """Read names for clusters from a table with the columns cluster and class: "cluster 3" → name.

    The column cluster has numbers, or names such as "cluster 3". runs/evaluate/<model>/clusters.csv is such a table. A
    cluster without a name keeps its number. Raises UserError for a file that cannot be read or is not such a table.
    """
    try:
        table = read_table(path, f"--names: {path}", CLUSTER, CLASS, lambda text: bool(CLUSTER_NUMBER.fullmatch(text)))
    except OSError as error:
        raise UserError(f"--names: {path} cannot be read: {error.strerror}") from None
    names: dict[str, str] = {}
    for row, cluster, text in table.rows:
        where = f"--names: {path} {table.unit} {row}"
        if name := (text or "").strip():
            number = CLUSTER_NUMBER.fullmatch(cluster)
            if not number:
                raise UserError(f"{where}: {quoted(cluster)} found, expected the number of a cluster")
            first = names.setdefault(key := f"cluster {int(number[1])}", name)
            if first != name:
                raise UserError(f"{where}: {key} has two classes, {quoted(first)} and {quoted(name)}")
    return names


def check_names(path: Path, names: Mapping[str, str], outputs: int, model: Path) -> None:
    """Raise UserError if a table of names belongs to other groups than the `outputs` of a model in a folder.

    It does if it names a cluster beyond them, if evaluate wrote it for another number (`evaluate.groups`), or if it
    says that it is of another model (MODEL_DIGEST). A line says so if not all clusters have names.
    """
    found = _evaluated_groups(path, outputs)
    if found != outputs:
        way_out = f"give --groups {found}" if found < outputs else "run the stage evaluate again"
        raise UserError(
            f"--names: {path}: names of {found} groups found, expected those of {outputs}; {way_out}, or give names of "
            f"{outputs} groups"
        )
    models = _models(path)
    digest = sha256(weights_path(model)) if models else ""
    if others := {each for each in models if not digest.startswith(each)}:
        raise UserError(
            f"--names: {path}: names of clusters of {counted(len(others), 'other model')} found, expected those of "
            f"{model}; run the stage evaluate again or open its groups in 'sslpipe label', or remove the column "
            f"{MODEL_DIGEST} if the names are right"
        )
    last = max((int(name.removeprefix("cluster ")) for name in names), default=-1)
    if last >= outputs:
        raise UserError(
            f"--names: {path}: cluster {last} found, expected 0 to {outputs - 1}; name the clusters of {outputs} groups"
        )
    if len(names) < outputs:
        info(f"--names: {path} names {len(names)} of {outputs} clusters; the others keep their numbers")


def _evaluated_groups(path: Path, outputs: int) -> int:
    """Return the number of groups that evaluate wrote a table for; `outputs` for a table of someone else."""
    folder = path.resolve().parent
    scored = folder.parent / "metrics.json"
    rows = read_json(scored) if scored.exists() else {}
    row = rows.get(folder.name) if isinstance(rows, dict) else None
    return int(row.get("outputs", outputs)) if isinstance(row, dict) else outputs


def _models(path: Path) -> set[str]:
    """Return the digests of models that a CSV file has; none of a table without them, or in another format."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        if MODEL_DIGEST not in file.readline(MAX_HEADER):
            return set()
        file.seek(0)
        return {each for row in csv.DictReader(file) if (each := (row.get(MODEL_DIGEST) or "").strip().lower())}
