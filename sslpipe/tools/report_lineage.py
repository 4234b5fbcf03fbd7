"""The provenance of an artifact for others to read, such as in the report, without paths of this machine."""

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
    strip_paths(artifact)
    return list(lines(artifact))


def strip_paths(artifact: Artifact) -> None:
    """Shorten absolute paths, of this machine, in an artifact and those that it was made from, to their last part."""
    for each in every(artifact):
        each.path = without_machine(each.path)
        each.metadata, each.settings = without_machine(each.metadata), without_machine(each.settings)
        each.note = " ".join(without_machine(each.note.split(" ")))


def every(artifact: Artifact) -> Iterator[Artifact]:
    """Yield an artifact and those that it was made from, each once."""
    seen: set[int] = set()
    waiting = [artifact]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += each.parents
