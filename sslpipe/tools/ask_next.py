"""What follows after questions are answered: how the pipeline gets a table of labels."""

from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from sslpipe.io.own_programs import repro_command
from sslpipe.io.params import Params
from sslpipe.io.text import shown
from sslpipe.tools.ask_rows import Origin
from sslpipe.tools.folder_summary import relative


def next_step(table: Path, project: Params, origin: Origin) -> str:
    """Return the next commands, in words, after questions were written to a table."""
    if origin.complete:
        return f"next, {as_experiment(table)}"
    fill = f"next: fill in the column label of {shown(str(table))}, in order as far as you like, then"
    if is_read(table, origin.tables):
        return f"{fill}\n  {repro_command()}"
    if made_by_init(project):
        return f"{fill}\n  sslpipe init . --labels {quote(str(table))} && {repro_command()}"
    return f"{fill} {by_hand(table)}"


def is_read(table: Path, tables: Iterable[Path]) -> bool:
    """Return whether a table is one of a project's tables of labels, so that it is read as it is."""
    return table.exists() and any(each.exists() and table.samefile(each) for each in tables)


def made_by_init(project: Params) -> bool:
    """Return whether `sslpipe init` made a project, and so can add labels to it."""
    return "sslpipe" in project.tree


def by_hand(table: Path) -> str:
    """Return how a project that `init` did not make reads a table of labels."""
    return f"set prepare.folder.labels: {relative(table, Path())} and run {repro_command()}"


def as_experiment(table: Path) -> str:
    """Return how a project whose source has all labels trains with those of a table alone."""
    return f"as the source has all labels, for an experiment: prepare.labelled: {{images: {table}}}"
