"""The commands that bring new labels into a project, or the reason why they cannot run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sslpipe.data.store import UNKNOWN
from sslpipe.io.params import Params
from sslpipe.io.text import listed
from sslpipe.labelling.rerun import Command
from sslpipe.sources import folder
from sslpipe.tools.ask_next import as_experiment, by_hand, is_read, made_by_init
from sslpipe.tools.asker import KnownLabels
from sslpipe.tools.folder_summary import relative

REPRO: Command = ("dvc", "repro")


def steps(
    project: Params, table: Path, labels: KnownLabels, *, complete: bool = False
) -> tuple[Sequence[Command], str | None]:
    """Return the commands that run the pipeline with the labels of a table, and None; or (), and why they cannot run.

    project: the settings as they are now. labels: what the table says. complete: whether the source has a label of
    every image, so that a table would take labels away.
    The pipeline cannot run without a label of a training image, with labels of one class, and with a class that no
    training image has: nothing could learn it, and prepare refuses it if it is in a folder such as val/ alone.
    """
    if why := _unsuitable(labels):
        return (), why
    is_folder = (project.tree.get("prepare") or {}).get("source") == "folder"
    if is_folder and is_read(table, project.parse(folder.Settings, "prepare.folder").tables()):
        return (REPRO,), None
    if complete or not is_folder:
        return (), as_experiment(table)
    if made_by_init(project):
        return (("sslpipe", "init", ".", "--labels", relative(table, project.path.parent)), REPRO), None
    return (), by_hand(table)


def _unsuitable(labels: KnownLabels) -> str | None:
    """Return why nothing can be learned from labels; None if something can."""
    trained, others = (np.unique(each[each != UNKNOWN]) for each in (labels.train, labels.held_out))
    if not len(trained):
        return "no training image has a label yet"
    if missing := [labels.names[each] for each in others if each not in trained]:
        names = listed(repr(name) for name in missing)
        return f"no training image is of {names}; label one training image of it, or rename it"
    if len(trained) == 1:
        return f"all labels are {labels.names[trained[0]]!r}; give another class to some images"
    return None
