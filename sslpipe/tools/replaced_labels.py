"""Labels of a project that a new table takes the place of."""

import os
from pathlib import Path
from typing import Any

from sslpipe.data.store import UNKNOWN
from sslpipe.io.errors import UserError
from sslpipe.io.text import counted
from sslpipe.preparation.tables import quoted
from sslpipe.sources.folder import Settings, Source
from sslpipe.tools.yaml_text import at


def replaced_labels(project: Path, tree: Any, labels: Path, after: Source) -> list[str]:
    """Return a line on labels that are no longer read, and one on those that change; none of labels that stay.

    project: its folder. tree: the content of its params.yaml, which does not name `labels` yet. after: the images with
    the labels of that table. Labels that cannot be read now have nothing to lose.
    """
    table = at(tree, "prepare.folder.labels")
    settings = Settings(
        path=str(project / os.path.expanduser(at(tree, "prepare.folder.path"))),
        layout=at(tree, "prepare.folder.layout"),
        labels=str(project / os.path.expanduser(table)) if table else None,
    )
    try:
        before = _labels(Source(settings))
    except UserError:
        return []
    now = _labels(after)
    gone = [name for name in before if name not in now]
    changed = [name for name, label in before.items() if now.get(name, label) != label]
    where = table or "the folder of the images"
    lines = []
    if gone:
        lines.append(
            f"{labels}: {counted(len(gone), 'image')} labelled by {where} without a label there, such as "
            f"{quoted(gone[0])}; to keep these labels, put them into {labels}"
        )
    if changed:
        name = changed[0]
        lines.append(
            f"{labels}: {counted(len(changed), 'image')} with another label than by {where}, such as {quoted(name)}: "
            f"{quoted(now[name])}, before {quoted(before[name])}"
        )
    return lines


def _labels(source: Source) -> dict[str, str]:
    return {entry.name: source.classes[entry.label] for entry in source.entries if entry.label != UNKNOWN}
