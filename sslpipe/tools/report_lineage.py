"""The provenance of an evaluation, for the report."""

from collections.abc import Iterator
from pathlib import Path

from sslpipe.io.files import read_json
from sslpipe.reporting.summary import without_machine
from sslpipe.tools.lineage import STAGE_CARD, Artifact, lines, trace


def report_lineage(evaluated: Path) -> list[str]:
    """Return what `sslpipe inspect` prints of the evaluation in a folder, without absolute paths and its metrics.

    The metrics of the evaluation are in the report's table.

    Raises UserError if evaluate has not run.
    """
    read_json(evaluated / STAGE_CARD)  # its error names the command that writes it
    artifact = trace(evaluated)
    artifact.metrics = {}
    for each in _all(artifact, set()):
        each.path = without_machine(each.path)
        each.metadata, each.settings = without_machine(each.metadata), without_machine(each.settings)
        each.note = " ".join(without_machine(each.note.split(" ")))
    return list(lines(artifact))


def _all(artifact: Artifact, seen: set[int]) -> Iterator[Artifact]:
    """Yield an artifact and those that it was made from, each once."""
    if id(artifact) not in seen:
        seen.add(id(artifact))
        yield artifact
        for parent in artifact.parents:
            yield from _all(parent, seen)
